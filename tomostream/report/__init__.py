"""The report: pictures and one HTML page.

Nothing here reads a project folder: `pipeline.report_page` gathers what a run has made.

    packed    arrays as text, for the page's script
    slab      the slices of a tomogram that one scrolls through, as WebP
    gallery   picks seen from two sides, as one WebP
    page      the built page (static/, made from view/web) with the results in it
"""
