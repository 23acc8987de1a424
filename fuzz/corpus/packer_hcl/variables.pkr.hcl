variable "release" {
  type    = number
  default = 9
}

variable "mirror_url" {
  type    = string
  default = env("ROCKY_MIRROR")
}

variable "memory" {
  type    = number
  default = 2048
}

variable "disk_gib" {
  type = number
}

variable "root_hash" {
  type      = string
  default   = "!"
}

variable "root_password" {
  type      = string
  sensitive = true
  default   = "changeme"
}

variable "proxy" {
  type    = string
  default = ""
}

variable "settings" {
  type = map(string)
  default = {
    site = "south"
  }
}
