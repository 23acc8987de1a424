packer {
  required_version = ">= 1.9"
  required_plugins {
    qemu = {
      version = "~> 1.1"
      source  = "github.com/hashicorp/qemu"
    }
    ansible = {
      version = "~> 1.1"
      source  = "github.com/hashicorp/ansible"
    }
  }
}

variable "iso-url" {
  type        = string
  description = "Where the server installer is."
  default     = "https://releases.example.org/ubuntu-24.04.4-live-server-amd64.iso"
}

variable "iso_checksum" {
  type    = string
  default = "file:https://releases.example.org/SHA256SUMS"
}

# MiB; the installer runs from memory.
variable "memory" {
  type    = number
  default = 4096
  validation {
    condition     = var.memory >= 2048
    error_message = "The installer needs 2 GiB at least."
  }
}

variable "password_hash" {
  type      = string
  sensitive = true
}

variable "packages" {
  type    = list(string)
  default = ["qemu-guest-agent", "cloud-guest-utils"]
}

variable "mirror" {
  type    = string
  default = "http://archive.example.org/ubuntu"
}

variable "headless" {
  type    = bool
  default = true
}

source "qemu" "ubuntu" {
  iso_url      = var.iso-url
  iso_checksum = var.iso_checksum
  # An instance has the same.
  memory       = var.memory
  cpus         = 2
  cpu_model    = "host"
  disk_size    = "12G"
  headless     = var.headless

  efi_boot          = true
  efi_firmware_code = "/usr/share/OVMF/OVMF_CODE_4M.fd"
  efi_firmware_vars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
  machine_type      = "q35"

  cd_label = "cidata"
  cd_content = {
    "meta-data" = ""
    "user-data" = templatefile("${path.root}/templates/user-data.pkrtpl", {
      hash     = var.password_hash
      packages = var.packages
      mirror   = var.mirror
    })
  }

  boot_wait = "5s"
  boot_steps = [
    ["<wait>e<wait>", "Open the entry of the menu"],
    ["<down><down><down><end> autoinstall<f10>", "Say that the answers may be taken"],
  ]

  ssh_username     = "ubuntu"
  ssh_timeout      = "60m"
  shutdown_command = "sudo shutdown -P now"
}

build {
  name        = "desktop"
  description = "Ubuntu for desktops"
  sources     = ["source.qemu.ubuntu"]

  # cloud-init has to be done before anything is installed.
  provisioner "shell" {
    inline = ["cloud-init status --wait"]
  }

  provisioner "shell" {
    script          = "scripts/desktop.sh"
    execute_command = "sudo {{ .Vars }} bash {{ .Path }}"
    env = {
      MIRROR = var.mirror
    }
    max_retries = 3
  }

  provisioner "ansible" {
    playbook_file = "./site.yml"
    extra_arguments = ["--extra-vars", "host=${build.Host}"]
  }

  provisioner "breakpoint" {
    note = "look around"
  }

  error-cleanup-provisioner "shell-local" {
    inline = ["echo failed"]
  }

  post-processors {
    post-processor "checksum" {
      checksum_types = ["sha256"]
    }
    post-processor "manifest" {
      output = "manifest.json"
    }
  }
}
