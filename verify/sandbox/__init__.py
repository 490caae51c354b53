"""Child processes for what may crash, hang or take too much memory, with limits that the kernel keeps."""
