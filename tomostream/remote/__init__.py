"""Files and folders on servers: URLs that fsspec can open, and their errors."""
