variable "image" {
  type = object({
    url      = string
    checksum = string
  })
  default = {
    url      = "https://cloud.example.org/images/trixie/debian-13-generic-amd64.qcow2"
    checksum = "none"
  }
}

variable "flavour" {
  type        = string
  description = "What the image is for: notebook or desktop"
  default     = "notebook"
}

variable "memory_gib" {
  type    = number
  default = 2
}

variable "registry_token" {
  type      = string
  default   = env("REGISTRY_TOKEN")
  sensitive = true
}

local "stamp" {
  expression = formatdate("YYYYMMDD", timestamp())
}

locals {
  packages = {
    notebook = ["python3-venv", "git"]
    desktop  = ["xfce4", "xrdp"]
  }
  common  = ["curl", "ca-certificates"]
  install = sort(distinct(concat(local.common, lookup(local.packages, var.flavour, []))))
  label   = format("%s-%s", var.flavour, local.stamp)
  config = {
    flavour = var.flavour
    owner   = coalesce("", "it")
    digest  = substr(sha256(file("scripts/setup.sh")), 0, 8)
  }
}

source "qemu" "cloud" {
  disk_image       = true
  use_backing_file = true
  iso_url          = var.image.url
  iso_checksum     = var.image["checksum"]
  vm_name          = "${local.label}.qcow2"
  memory           = var.memory_gib * 1024
  disk_size        = "10G"
  disk_compression = true

  cd_label = "cidata"
  cd_content = {
    "meta-data" = jsonencode({ instance-id = "build" })
    "user-data" = file("user-data")
  }

  ssh_username = "debian"
  qemuargs = [
    ["-serial", "file:{{ .OutputDir }}/console.log"],
  ]
}

build {
  sources = ["qemu.cloud"]

  provisioner "shell" {
    execute_command = "sudo env {{ .Vars }} sh -eux {{ .Path }}"
    inline = [
      "apt-get update",
      "apt-get install -y ${join(" ", local.install)}",
      "echo '${local.label}' >/etc/image-release",
    ]
  }

  provisioner "file" {
    content     = yamlencode(local.config)
    destination = "/tmp/image.yml"
  }

  provisioner "shell" {
    script           = "scripts/setup.sh"
    environment_vars = ["REGISTRY_TOKEN=${var.registry_token}"]
    pause_before     = "5s"
  }

  post-processor "shell-local" {
    inline = ["openstack image create --file output/image.qcow2 ${local.label}"]
  }
}
