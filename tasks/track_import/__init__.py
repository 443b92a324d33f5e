"""Reading other programs' body tracks and bringing them into the fit stage."""
