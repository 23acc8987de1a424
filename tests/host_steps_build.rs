//! Provisioners that run on the build host, in a build with a guest: Ansible itself, the host's ssh, and what is done
//! after a failure.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use support::bench::Bench;
use support::{Access, in_image, told};
use uuid::Uuid;
use visabuild::engine::Engine;

const PLAYBOOK: &str = "\
- hosts: desktops
  gather_facts: false
  tasks:
    - name: leave a mark
      ansible.builtin.copy: {content: \"played on {{ inventory_hostname }}\\n\", dest: /etc/played, mode: '0644'}
";

/// Steps of which `last` is the end, and what is done when one of them fails.
fn steps(salt: Uuid, last: &str) -> String {
    format!(
        r#"    - type: ansible
      playbook_file: site.yml
      groups: [desktops]
      host_alias: guest
      extra_arguments: ["--extra-vars", "salt={salt}"]
    - type: shell-local
      inline:
        - ssh -F none -o BatchMode=yes -i "$VISABUILD_SSH_KEY_FILE" -o UserKnownHostsFile="$VISABUILD_SSH_KNOWN_HOSTS_FILE"
          -p "$VISABUILD_SSH_PORT" "$VISABUILD_SSH_USER@$VISABUILD_SSH_HOST" 'cp /etc/played /etc/copied'
    - type: shell
      inline: ["{last}"]
  error-cleanup-provisioner:
    type: shell
    inline: ["echo cleaned up, $(cat /etc/copied)"]"#
    )
}

#[test]
fn nspawn_a_playbook_is_played_and_a_failure_is_cleaned_up_after() {
    let salt = Uuid::new_v4();
    let bench = Bench::new(Engine::Nspawn, &steps(salt, "exit 3"));
    fs::write(bench.folder.path().join("templates/tiny/site.yml"), PLAYBOOK).unwrap();
    let (_, err, code) = told(&bench.build().args(["--checkpoints", "all"]).output().unwrap());
    assert_eq!(code, 4, "{err}");
    for seen in ["TASK [leave a mark]", "| cleaned up, played on guest", "exit code 3"] {
        assert!(err.contains(seen), "{seen}: {err}");
    }
    let said = err.find("| cleaned up").unwrap();
    assert!(said < err.find("error: building `tiny`").unwrap(), "{err}");

    bench.steps(&steps(salt, "echo done >>/etc/copied"));
    let (_, err, code) = told(&bench.build().args(["--no-verify"]).output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(!err.contains("leave a mark") && !err.contains("cleaned up"), "{err}");
    let image = bench.results().join("tiny.qcow2");
    let look = "cat etc/copied; if [ -e root/.ansible ]; then echo left; fi";
    assert_eq!(in_image(&image, Access::Read, look), "played on guest\ndone\n");
}
