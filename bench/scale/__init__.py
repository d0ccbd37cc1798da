"""What breaks first when a data set is as large as a facility's?  A discrete-event model of `predict`, fed with measured costs."""
