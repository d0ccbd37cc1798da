"""The workbench: look at tomograms in a browser, click particles, train, pick, correct, export.

A page (`web/`, built into `static/`) talks to a server on the loopback interface.  The server computes nothing itself: it reads stores
and tables, keeps one table of clicks, and starts commands of `tomostream` in processes of their own.

    PATH...  ──▶ workspace     which tomograms, which project folder, which configuration, which table of clicks
    stores   ──▶ volumes ──▶ tiles, thumbnails    grey values of what is on the screen (bounded cache)
    picks/   ──▶ picks         tables that `pick` wrote, with precision and recall where there is truth
    page     ──▶ configuration_form    what the page's form writes for `run`
             ──▶ clicks        patches: rows that go, rows that come; the file is read, merged, and replaced whole
             ──▶ jobs          convert, run, pick, suggest: their progress is read from what they write
             ──▶ exports       every format of `tomostream export`

Rules:

1. No parameter of a request is a path.  Tomograms, formats and exports go by names that the server has listed before.
2. Writing happens in the project folder and in the table of clicks, nowhere else; every file is replaced whole.
3. Positions on the wire are angstrom for tables and voxels for tiles; arrays are z y x, tables name x y z.
4. Without the token, or for another Host or Origin, there is no answer but 403 (`security`).
"""
