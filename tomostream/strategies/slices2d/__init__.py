"""The strategy `slices2d`: a 2-D single-shot detector on x-y slices, whose boxes `picking.tracing` joins through z."""
