"""A home in napari: tomograms, score maps, picks and clicks as layers; clicks are saved as the workbench saves them.

    napari.yaml  what napari is told (npe2)
    levels       volumes as napari reads them: slice by slice, level by level
    layers       what a store or a table becomes; and back again
    readers      files that are dropped on the window
    clicks       the clicks of a layer, into a table that others may change meanwhile
    widget       the panel: how many picks, new clicks, save
    sample       a small simulated tomogram

napari and Qt are imported by `widget` alone, and only when the panel is opened.
"""
