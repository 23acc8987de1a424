# The defaults of this site.
memory   = 4096
disk_gib = 16
settings = {
  site  = "north"
  level = "2"
}
