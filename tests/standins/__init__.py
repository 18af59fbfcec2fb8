"""Stand-ins for the vendor's tools and files, for use where the real ones can't be had. Each says that it is one."""
