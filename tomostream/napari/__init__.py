"""A napari plugin: tomograms, score maps, picks and clicks as layers.  It saves clicks as the workbench does.

    napari.yaml  the plugin's manifest (npe2)
    levels       volumes as arrays that napari reads slice by slice, level by level
    layers       make layers from stores and tables, and tables from layers
    readers      readers of files dropped on the window
    clicks       save the clicks of a layer in a table that others may change at the same time
    widget       the panel: how many picks to show, new clicks, save
    sample       a small simulated tomogram

Only `widget` imports napari and Qt, when the panel is opened.
"""
