//! Projects written by hand, of which packme and visabuild make the same.

use super::Files;

/// Each is `NAME`, and its files after lines `=== PATH`.
const PROJECTS: [(&str, &str); 24] = [
    ("nothing but a name", "=== config.yml\ntemplates: {a: }\n=== templates/a/environment.yml\nenvironment: {}\n"),
    ("a template that is text", "=== config.yml\ntemplates: {a: text}\n=== templates/a/environment.yml\nenvironment: {x: 1}\n"),
    (
        "a chain of three",
        "=== config.yml
templates:
  system-base:
  visa-base: {extends: system-base}
  visa-apps: {extends: visa-base}
=== templates/system-base/environment.yml
environment: {headless: true, disk_size: 20000, memory: 2048}
=== templates/visa-base/environment.yml
environment: {headless: true, proxy: \"\"}
=== templates/visa-apps/environment.yml
environment: {headless: false}
=== templates/system-base/manifest.yml
packer:
  description: Debian
  variables: {ssh_name: root}
  builders:
    - name: qemu
      type: qemu
      accelerator: kvm
      boot_command: [\"<esc>auto \", \"url=http://{% raw %}{{ .HTTPIP }}:{{ .HTTPPort }}{% endraw %}/preseed.cfg \", \"<enter>\"]
      boot_wait: 5s
      disk_size: \"{{ disk_size }}\"
      headless: \"{{ headless }}\"
      iso_checksum: sha256:abc
      iso_url: https://example.org/debian.iso
      qemuargs: [[-m, \"{{ memory }}M\"], [-smp, cpus=2]]
      shutdown_command: echo | sudo -S poweroff
      ssh_timeout: 60m
      format: qcow2
  provisioners:
    - {type: shell, script: scripts/a.sh, environment_vars: [\"A={{ memory }}\"]}
=== templates/visa-base/manifest.yml
packer:
  builders:
    - {name: qemu, type: qemu, disk_image: true, ssh_password: x}
  provisioners:
    - {type: file, source: files, destination: /tmp}
    - {type: file, source: /etc/hosts, destination: /tmp}
    - {type: shell, inline: [\"export http_proxy={{ proxy }}\", apt-get update]}
=== templates/visa-apps/manifest.yml
packer:
  provisioners:
    - {type: shell, scripts: [a.sh, b.sh]}
",
    ),
    ("builders of the parent alone", "=== config.yml
templates: {p: , c: {extends: p}}
=== templates/p/environment.yml
environment: {headless: 1}
=== templates/c/environment.yml
environment: {headless: no}
=== templates/p/manifest.yml
packer: {builders: [{name: one, type: qemu}, {name: two, type: virtualbox-iso}, {name: one, type: null-again}]}
"),
    ("builders in another order", "=== config.yml
templates: {p: , c: {extends: p}}
=== templates/p/environment.yml
environment: {headless: 1}
=== templates/c/environment.yml
environment: {headless: no}
=== templates/p/manifest.yml
packer: {builders: [{name: one, type: qemu}, {name: two, type: qemu}]}
=== templates/c/manifest.yml
packer: {builders: [{name: own, type: docker}, {iso_checksum: x, name: two, headless: true, type: hyperv-iso, iso_url: y}]}
"),
    ("a grandparent's builders do not come", "=== config.yml
templates: {g: , p: {extends: g}, c: {extends: p}}
=== templates/g/environment.yml
environment: {headless: 1}
=== templates/p/environment.yml
environment: {headless: 1}
=== templates/c/environment.yml
environment: {headless: 1}
=== templates/g/manifest.yml
packer: {builders: [{name: q, type: qemu}]}
"),
    ("headless is not set", "=== config.yml
templates: {p: , c: {extends: p}}
=== templates/p/environment.yml
environment: {}
=== templates/c/environment.yml
environment: {}
=== templates/p/manifest.yml
packer: {builders: [{name: q, type: qemu}]}
"),
    ("an undefined variable", "=== config.yml
templates: {a: }
=== templates/a/environment.yml
environment: {x: 1}
=== templates/a/manifest.yml
packer: {description: \"{{ x }} {{ y }}\"}
"),
    ("packages", "=== config.yml
templates: {a: {packages: [two, one, none]}}
=== templates/a/environment.yml
environment: {x: 1}
=== templates/a/manifest.yml
packer: {provisioners: [{type: shell, inline: [own]}]}
=== packages/one/manifest.yml
provisioners: [{type: file, source: f, destination: \"/{{ x }}\"}, {type: shell, scripts: [s]}]
=== packages/two/manifest.yml
description: ignored
provisioners: [{type: shell, script: /abs}, {type: ansible, playbook_file: p, source: stays}]
"),
    ("all packages, of which there is one", "=== config.yml
templates: {a: {packages: '*'}, b: {packages: [x, '*']}}
=== templates/a/environment.yml
environment: {x: 1}
=== templates/b/environment.yml
environment: {x: 1}
=== packages/one/manifest.yml
provisioners: [{type: file, source: f}]
"),
    ("vm_name of the file", "=== config.yml
templates: {a: }
=== templates/a/environment.yml
environment: {vm_name: other}
=== templates/a/manifest.yml
packer: {description: \"{{ vm_name }}\", builders: [{type: qemu, vm_name: mine, output_directory: /out}]}
"),
    ("aliases and merge keys", "=== config.yml
templates: {a: }
=== templates/a/environment.yml
environment: &all {x: 1}
other: *all
=== templates/a/manifest.yml
base: &base {type: qemu, memory: 1}
packer:
  builders:
    - {<<: *base}
    - *base
  provisioners: [&p {type: shell, script: s}]
"),
    ("JSON as YAML", "=== config.yml
{\"templates\": {\"a\": null}}
=== templates/a/environment.yml
{\"environment\": {\"x\": 1}}
=== templates/a/manifest.yml
{\"packer\": {\"builders\": [{\"type\": \"qemu\", \"memory\": 1, \"deep\": {\"a\": [1, [2, {\"b\": true}]]}}]}}
"),
    ("folded text", "=== config.yml
templates: {a: }
=== templates/a/environment.yml
environment:
  long: >-
    one
    two
=== templates/a/manifest.yml
packer:
  description: >-
    first
    second {{ long }}
  variables: {plain: over two
    lines}
"),
    ("lists and mappings in the environment", "=== config.yml
templates: {a: }
=== templates/a/environment.yml
environment: {numbers: [1, 2.5, true, null], map: {k: 2}}
=== templates/a/manifest.yml
packer: {description: \"{{ numbers }} {{ map | length }}\"}
"),
    ("provisioners without paths", "=== config.yml
templates: {a: }
=== templates/a/environment.yml
environment: {x: 1}
=== templates/a/manifest.yml
packer:
  provisioners:
    - {type: shell, source: s, script: \"\"}
    - {type: file, sources: [a, b], source: ./x/, content: c}
    - {type: breakpoint, script: stays}
"),
    ("keys with variables", "=== config.yml
templates: {a: }
=== templates/a/environment.yml
environment: {x: key}
=== templates/a/manifest.yml
packer: {variables: {\"{{ x }}\": 1, \"{{ x }}-2\": \"{{ x }}\"}}
"),
    ("what is beside packer is ignored", "=== config.yml
other: 1
templates: {a: {extends: , packages: []}}
=== templates/a/environment.yml
environment: {x: key}
more: 2
=== templates/a/manifest.yml
parameters: {p: 1}
packer: {min_packer_version: 1.7.0, description: d, sensitive-variables: [x]}
"),
    ("a builder without a type", "=== config.yml
templates: {a: }
=== templates/a/environment.yml
environment: {x: 1}
=== templates/a/manifest.yml
packer: {builders: [{name: q}]}
"),
    ("a provisioner without a type", "=== config.yml
templates: {a: }
=== templates/a/environment.yml
environment: {x: 1}
=== templates/a/manifest.yml
packer: {provisioners: [{script: q}]}
"),
    ("braces without quotes", "=== config.yml
templates: {a: }
=== templates/a/environment.yml
environment: {x: 1}
=== templates/a/manifest.yml
packer:
  description: {{ x }}
"),
    ("no templates", "=== config.yml
other: {a: }
=== templates/a/environment.yml
environment: {x: 1}
"),
    ("an unknown parent", "=== config.yml
templates: {a: {extends: b}}
=== templates/a/environment.yml
environment: {x: 1}
"),
    ("a statement that does not end", "=== config.yml
templates: {a: }
=== templates/a/environment.yml
environment: {x: 1}
=== templates/a/manifest.yml
packer: {description: \"{% if x %}\"}
"),
];

pub(super) fn all() -> Vec<Files> {
    PROJECTS.iter().map(|(name, text)| Files::parse(name, text)).collect()
}
