"""The rival that looks at slices: a 2-D single-shot detector on x-y planes, whose boxes `picking.tracing` joins through z."""
