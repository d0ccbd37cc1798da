"""The strategy `slices2d`: a 2-D single-shot detector on x-y slices, whose boxes are traced through z by `picking.tracing`."""
