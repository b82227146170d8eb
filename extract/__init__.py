"""From videos to the paper's features: frames on a grid of time, TV-L1 flow, two-stream I3D."""
