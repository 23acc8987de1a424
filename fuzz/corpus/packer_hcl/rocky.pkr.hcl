locals {
  name    = "rocky-${var.release}"
  mirror  = trimsuffix(var.mirror_url, "/")
  answers = "ks.cfg"
  packages = concat(["cloud-init", "tar"], var.release >= 9 ? ["dnf-plugins-core"] : [])
}

source "qemu" "rocky" {
  iso_urls     = [for name in ["boot", "minimal"] : "${local.mirror}/isos/x86_64/Rocky-${var.release}-latest-x86_64-${name}.iso"]
  iso_checksum = "file:${local.mirror}/isos/x86_64/CHECKSUM"

  vm_name          = local.name
  output_directory = "output-${local.name}"
  format           = "qcow2"
  accelerator      = "kvm"
  memory           = var.memory
  disk_size        = "${var.disk_gib}G"

  http_content = {
    "/${local.answers}" = <<-EOT
      text
      poweroff
      lang en_US.UTF-8
      url --url=${var.mirror_url}/BaseOS/x86_64/os/
      rootpw --iscrypted ${var.root_hash}
      %{ if var.proxy != "" ~}
      # through ${var.proxy}
      %{ endif ~}

      %packages
      %{ for package in local.packages ~}
      ${package}
      %{ endfor ~}
      %end
    EOT
  }
  boot_wait    = "10s"
  boot_command = ["<up><tab> inst.text inst.ks=http://{{ .HTTPIP }}:{{ .HTTPPort }}/${local.answers}<enter>"]

  ssh_username = "root"
  ssh_password = var.root_password
  ssh_timeout  = "90m"

  dynamic "qemu_img_args" {
    for_each = []
    content {
      convert = []
    }
  }
}

build {
  sources = ["qemu.rocky"]

  source "qemu.rocky" {
    name   = "rocky-big"
    memory = 8192
  }

  provisioner "file" {
    source      = "${path.root}/provision/repository.repo"
    destination = "/etc/yum.repos.d/site.repo"
    except      = ["qemu.rocky-big"]
  }

  dynamic "provisioner" {
    for_each = { update = "dnf -y upgrade", clean = "dnf clean all" }
    labels   = ["shell"]
    iterator = step
    content {
      name   = step.key
      inline = [step.value]
    }
  }

  provisioner "shell" {
    environment_vars = [for name, value in var.settings : "${upper(name)}=${value}"]
    scripts          = [for name in ["one", "two"] : "provision/${name}.sh"]
    override = {
      rocky-big = {
        environment_vars = ["SIZE=big"]
      }
    }
    timeout = "30m"
  }
}
