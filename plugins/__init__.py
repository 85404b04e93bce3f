"""The default method: VideoMAE, slot attention and PACL, registered as any plugin would be."""
