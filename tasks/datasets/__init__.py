"""Published datasets as their authors hand them out: a folder takes the place of a video, and the published protocol is kept."""
