"""Body tracks that other programs made, brought to this project's conventions."""
