//! The `ansible` provisioner: the host's Ansible plays playbooks in the guest, over OpenSSH's client.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::process::Command;

use super::{Context, fill};
use crate::error::{Cause, Context as _, Error, Kind, Result};
use crate::event::Stream;
use crate::guest::{Guest, Outcome, WayIn, private};
use crate::lines::Tail;
use crate::process::run_group;
use crate::shell_word::{line, word};
use crate::template::{Ansible, Galaxy, HostPath, Text};

/// Plays the playbooks in order, after what the galaxy file asks for is installed.
pub(super) async fn run(guest: &Guest, ansible: &Ansible, context: &Context<'_>) -> Result<()> {
    let way = WayIn::open(guest.endpoint(), context.work).await?;
    let inventory = write_inventory(ansible, &way)?;
    let player = Player { guest, ansible, context, way: &way };
    if let Some(galaxy) = &ansible.galaxy {
        for arguments in player.galaxy(galaxy)? {
            player
                .run(&galaxy.command, &arguments)
                .await
                .map_err(|error| error.context("installing the galaxy file"))?;
        }
    }
    for playbook in &ansible.playbooks {
        let played = player.run(&ansible.command, &player.play(playbook, &inventory)?).await;
        played.map_err(|error| match ansible.playbooks.len() {
            1 => error,
            _ => error.context(format!("playbook {}", playbook.shown)),
        })?;
    }
    Ok(())
}

/// Writes an inventory that has the guest in it; what leads there is in the host's variables, which an inventory of the
/// user's own has no need to repeat.
fn write_inventory(ansible: &Ansible, way: &WayIn) -> Result<PathBuf> {
    let Ansible { host_alias, groups, empty_groups, user, .. } = ansible;
    let (host, port) = (way.address().ip().to_string(), way.address().port().to_string());
    let user = user.as_deref().unwrap_or(way.user());
    let known = "{{ .HostAlias }}, {{ .Host }}, {{ .Port }} and {{ .User }}";
    let mut text = fill(ansible.inventory_line.plain(), known, |name| match name {
        "HostAlias" => Some(host_alias),
        "Host" => Some(&host),
        "Port" => Some(&port),
        "User" => Some(user),
        _ => None,
    })?;
    text.push('\n');
    for group in groups {
        text.push_str(&format!("[{group}]\n{host_alias}\n"));
    }
    for group in empty_groups {
        text.push_str(&format!("[{group}]\n"));
    }
    let variables = json!({
        "ansible_connection": "ssh",
        "ansible_host": host,
        "ansible_port": way.address().port(),
        "ansible_user": user,
        "ansible_ssh_private_key_file": way.key_file(),
        "ansible_host_key_checking": true,
        "ansible_ssh_host_key_checking": true,
        "ansible_ssh_common_args": ssh_arguments(way),
        "ansible_control_path_dir": way.folder().join("c"),
        "ansible_ssh_transfer_method": if ansible.use_sftp { "sftp" } else { "piped" },
    });
    let folder = way.folder().join("inventory");
    fs::create_dir_all(folder.join("host_vars")).context(Kind::Host, || format!("cannot make {}", folder.display()))?;
    private(&folder.join("hosts"), &text)?;
    private(&folder.join(format!("host_vars/{host_alias}.json")), &variables.to_string())?;
    Ok(folder.join("hosts"))
}

/// The guest's own host key and nothing else is taken.
fn ssh_arguments(way: &WayIn) -> String {
    let known_hosts = format!("UserKnownHostsFile=\"{}\"", way.known_hosts_file().display());
    let options =
        [known_hosts.as_str(), "GlobalKnownHostsFile=none", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"];
    line(options.iter().flat_map(|option| ["-o", option]))
}

/// What runs Ansible's programs.
struct Player<'a> {
    guest: &'a Guest,
    ansible: &'a Ansible,
    context: &'a Context<'a>,
    way: &'a WayIn,
}

impl Player<'_> {
    fn play(&self, playbook: &HostPath, inventory: &Path) -> Result<Vec<String>> {
        let Ansible { extra_arguments, ssh_extra_args, limit, inventories, host_alias, .. } = self.ansible;
        let mut arguments: Vec<String> = Vec::new();
        for inventory in inventories {
            arguments.extend(["-i".to_owned(), text(&inventory.path)?]);
        }
        arguments.extend(["-i".to_owned(), text(inventory)?]);
        for (name, value) in self.context.told() {
            arguments.extend(["-e".to_owned(), format!("{}={}", name.to_ascii_lowercase(), value.plain())]);
        }
        let is_limited = |argument: &Text| {
            let argument = argument.plain();
            argument.starts_with("--limit") || (argument.starts_with("-l") && !argument.starts_with("--"))
        };
        let limit = limit.as_ref().or_else(|| {
            // The user's own inventory may have other machines in it.
            let has_own = !inventories.is_empty() || self.ansible.inventories_of_arguments().next().is_some();
            (has_own && !extra_arguments.iter().any(is_limited)).then_some(host_alias)
        });
        arguments.extend(limit.map(|limit| format!("--limit={limit}")));
        if !ssh_extra_args.is_empty() {
            let words = ssh_extra_args.iter().map(Text::plain).collect::<Vec<_>>().join(" ");
            arguments.push(format!("--ssh-extra-args={words}"));
        }
        arguments.extend(extra_arguments.iter().map(|argument| argument.plain().to_owned()));
        arguments.push(text(&playbook.path)?);
        Ok(arguments)
    }

    /// The arguments that install roles, collections or both, as the file has them.
    fn galaxy(&self, galaxy: &Galaxy) -> Result<Vec<Vec<String>>> {
        let file = text(&galaxy.file.path)?;
        let content =
            fs::read_to_string(&galaxy.file.path).context(Kind::Usage, || format!("reading {}", galaxy.file.shown))?;
        let has = |key: &str| content.lines().any(|line| line.trim_end().strip_suffix(':') == Some(key));
        let (roles, collections) = (has("roles"), has("collections"));
        let kinds = [
            (roles || !collections, &["install"][..], &self.ansible.roles_path),
            (collections, &["collection", "install"], &self.ansible.collections_path),
        ];
        let mut all = Vec::new();
        for (_, words, path) in kinds.into_iter().filter(|(wanted, ..)| *wanted) {
            let mut arguments: Vec<String> = words.iter().map(ToString::to_string).collect();
            arguments.extend(["-r".to_owned(), file.clone()]);
            if let Some(path) = path {
                arguments.extend(["-p".to_owned(), text(&path.path)?]);
            }
            arguments.extend(galaxy.force_install.then(|| "--force".to_owned()));
            arguments.extend(galaxy.force_with_deps.then(|| "--force-with-deps".to_owned()));
            all.push(arguments);
        }
        Ok(all)
    }

    async fn run(&self, program: &str, arguments: &[String]) -> Result<()> {
        let Self { guest, ansible, context, way } = self;
        let phase = context.phase;
        let mut command = Command::new(self.ansible.program(program));
        command.args(arguments).current_dir(&ansible.folder).env("ANSIBLE_LOCAL_TEMP", way.folder().join("t"));
        for (name, path) in
            [("ANSIBLE_ROLES_PATH", &ansible.roles_path), ("ANSIBLE_COLLECTIONS_PATH", &ansible.collections_path)]
        {
            command.envs(path.as_ref().map(|path| (name, absolute(&path.path))));
        }
        command.envs(ansible.environment_vars.iter().map(|(name, value)| (name, value.plain())));
        let mut story = Story::default();
        let ran = run_group(command, &guest.endpoint().cancel, |stream, line| {
            story.hear(stream, line);
            phase.output(stream, line);
        });
        let status = guest.unless_machine_ended(ran).await?;
        let code = status.code().and_then(|code| u32::try_from(code).ok());
        let error = match code {
            Some(0) => return Ok(()),
            Some(code) => Error::build(format!("{}: exit code {code}", word(program)))
                .caused_by(Cause::Command(Outcome::Exit(code))),
            None => Error::build(format!("{} ended by {status}", word(program))),
        };
        // A play fails, too, because its machine does.
        guest.reason_of_loss().await?;
        let why = phase.events().redact(&story.why());
        Err(if why.is_empty() { error } else { error.because(why) })
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn text(path: &Path) -> Result<String> {
    let path = absolute(path);
    path.to_str().map(str::to_owned).ok_or_else(|| Error::usage(format!("{} is not UTF-8", path.display())))
}

/// What a play says of its tasks, in the form of Ansible's own callback `default`.
#[derive(Default)]
struct Story {
    task: String,
    failure: Option<String>,
    errors: Tail,
}

impl Story {
    fn hear(&mut self, stream: Stream, line: &str) {
        if stream == Stream::Stderr {
            self.errors.push(line);
        }
        let task = ["TASK [", "RUNNING HANDLER ["].iter().find_map(|begin| line.strip_prefix(begin));
        if let Some((name, _)) = task.and_then(|rest| rest.rsplit_once(']')) {
            name.clone_into(&mut self.task);
        } else if let Some((_, said)) = line.split_once("=> ").filter(|_| is_failure(line)) {
            self.failure = Some(format!("task `{}`: {}", self.task, reason(said)));
        } else if line.trim() == "...ignoring" {
            self.failure = None;
        }
    }

    /// The task that failed and the reason, or what was said instead.
    fn why(&self) -> String {
        self.failure.clone().unwrap_or_else(|| self.errors.text())
    }
}

fn is_failure(line: &str) -> bool {
    ["fatal: [", "failed: ["].iter().any(|begin| line.starts_with(begin))
}

/// The message of a result, and what the command has said on standard error.
fn reason(said: &str) -> String {
    let Ok(result) = serde_json::from_str::<Value>(said) else { return said.trim().to_owned() };
    let texts = ["msg", "stderr"].iter().filter_map(|key| result.get(*key)).map(|value| match value {
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    });
    let texts: Vec<String> = texts.filter(|text| !text.is_empty()).collect();
    if texts.is_empty() { said.trim().to_owned() } else { texts.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[&str]) -> String {
        let mut story = Story::default();
        lines.iter().for_each(|line| story.hear(Stream::Stdout, line));
        story.why()
    }

    #[test]
    fn the_task_that_failed_and_its_reason_are_told() {
        let task = "TASK [web : install [it]] ****************";
        let fatal = r#"fatal: [default]: FAILED! => {"changed": true, "msg": "non-zero return code", "rc": 3, "stderr": "no\n"}"#;
        assert_eq!(told(&[task, fatal]), "task `web : install [it]`: non-zero return code: no");
        assert_eq!(told(&[task, fatal, "...ignoring"]), "");
        assert_eq!(
            told(&[task, "failed: [default] (item=a) => {\"rc\": 1}"]),
            "task `web : install [it]`: {\"rc\": 1}"
        );
        assert_eq!(
            told(&[task, "fatal: [default]: UNREACHABLE! => {\"msg\": \"lost\"}"]),
            "task `web : install [it]`: lost"
        );
    }
}
