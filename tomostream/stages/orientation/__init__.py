"""`orient`: the rotations of picks, by aligning each to the average of the clicked particles."""
