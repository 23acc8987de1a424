//! `ansible`: playbooks that the host's Ansible plays in the guest.

use std::path::PathBuf;

use serde::Serialize;

use super::shell::{environment, normalised};
use crate::error::Problem;
use crate::template::fields::{Fields, Reader};
use crate::template::keys::provisioner::ANSIBLE;
use crate::template::nearest::suggestion;
use crate::template::paths::{Search, Want};
use crate::template::scalar;
use crate::template::yaml::Node;
use crate::template::{HostPath, Text};

/// What `inventory_file_template` may use.
const VARIABLES: [&str; 4] = ["HostAlias", "Host", "Port", "User"];

const INVENTORY: &str = "{{ .HostAlias }} ansible_host={{ .Host }} ansible_user={{ .User }} ansible_port={{ .Port }}";

/// The `ansible` provisioner.
#[derive(Debug, Clone, Serialize)]
pub struct Ansible {
    /// Playbooks, in order.
    pub playbooks: Vec<HostPath>,
    /// What plays them.
    pub command: String,
    /// Arguments of it, without secrets: everybody on the host sees them.
    pub extra_arguments: Vec<Text>,
    /// `KEY=VALUE`, for it and for the galaxy's command.
    pub environment_vars: Vec<(String, Text)>,
    /// Further arguments of its SSH client.
    pub ssh_extra_args: Vec<Text>,
    /// Groups that the guest is in.
    pub groups: Vec<String>,
    /// Groups that nothing is in.
    pub empty_groups: Vec<String>,
    /// The guest's name in the inventory.
    pub host_alias: String,
    /// The account; none is that of the provisioners.
    pub user: Option<String>,
    /// Hosts that are played on.
    pub limit: Option<String>,
    /// Inventories of the user's own: a file, a folder.
    pub inventories: Vec<HostPath>,
    /// The guest's line of the inventory.
    pub inventory_line: Text,
    /// What is installed before.
    pub galaxy: Option<Galaxy>,
    /// Folder of the roles.
    pub roles_path: Option<HostPath>,
    /// Folder of the collections.
    pub collections_path: Option<HostPath>,
    /// Files go by SFTP.
    pub use_sftp: bool,
    /// Where it runs: the folder in which its paths are looked for first.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl Ansible {
    /// The absolute path or the name by which `program` is started: a path is relative to the folder that it runs in.
    pub fn program(&self, program: &str) -> PathBuf {
        if !program.contains('/') {
            return PathBuf::from(program);
        }
        let path = self.folder.join(program);
        std::path::absolute(&path).unwrap_or(path)
    }

    /// Inventories that `extra_arguments` name: files and folders, no lists of hosts.
    pub fn inventories_of_arguments(&self) -> impl Iterator<Item = &str> {
        let arguments = self.extra_arguments.iter().map(Text::plain);
        let pairs = arguments.clone().zip(arguments.skip(1).map(Some).chain([None]));
        let values = pairs.filter_map(|(argument, next)| match argument {
            "-i" | "--inventory" | "--inventory-file" => next,
            _ => {
                let long = ["--inventory=", "--inventory-file="].iter().find_map(|name| argument.strip_prefix(*name));
                long.or_else(|| argument.strip_prefix("-i").filter(|_| !argument.starts_with("--")))
            }
        });
        values.filter(|value| !value.contains(','))
    }
}

/// Roles and collections from elsewhere.
#[derive(Debug, Clone, Serialize)]
pub struct Galaxy {
    /// The requirements.
    pub file: HostPath,
    /// What installs them.
    pub command: String,
    /// Roles that are there are replaced.
    pub force_install: bool,
    /// Likewise what they depend on.
    pub force_with_deps: bool,
}

/// Reads the rest of an ansible provisioner; also returns a label made of its playbooks.
pub(super) fn read(reader: &mut Reader<'_>, mut fields: Fields<'_>, search: &Search) -> Option<(String, Ansible)> {
    let playbooks = fields.one_of(&["playbook_file", "playbook_files"], reader.problems);
    let [command, host_alias, user, limit] =
        ["command", "host_alias", "user", "limit"].map(|key| fields.get(key)).map(|node| reader.optional(node, word));
    let arguments = fields.get("extra_arguments");
    let ssh_arguments = fields.get("ansible_ssh_extra_args");
    let variables = fields.get("ansible_env_vars");
    let groups = ["groups", "empty_groups"].map(|key| fields.get(key));
    let own = [(fields.get("inventory_file"), Want::Any), (fields.get("inventory_directory"), Want::Any)];
    let line = fields.get("inventory_file_template");
    let galaxy = galaxy(reader, &mut fields, search);
    let paths = ["roles_path", "collections_path"].map(|key| fields.get(key));
    let use_sftp = fields.get("use_sftp");
    fields.finish_as(&ANSIBLE, reader.problems);

    let find = |reader: &mut Reader<'_>, node: &Node, want| {
        search.find(reader, node, want).and_then(|path| public(reader, node, path))
    };
    let playbooks = playbooks.and_then(|(key, node)| match key {
        "playbook_file" => find(reader, node, Want::File).map(|path| vec![path]),
        _ => reader.some(node, |reader, node| find(reader, node, Want::File)),
    });
    let mut arguments =
        [arguments, ssh_arguments].map(|node| reader.optional(node, |reader, node| reader.list(node, argument)));
    let variables = environment(reader, variables, None);
    let [groups, empty_groups] = groups.map(|node| reader.optional(node, |reader, node| reader.list(node, word)));
    let own = own.map(|(node, want)| reader.optional(node, |reader, node| find(reader, node, want)));
    let line = reader.optional(line, inventory_line);
    let [roles, collections] =
        paths.map(|node| reader.optional(node, |reader, node| find(reader, node, Want::Generated)));
    let use_sftp = reader.optional(use_sftp, |reader, node| reader.parse(node, scalar::boolean));

    let playbooks = playbooks?;
    let [own_file, own_folder] = own;
    let names = playbooks.iter().filter_map(|path| path.path.file_name()).map(|name| name.to_string_lossy());
    let label = names.collect::<Vec<_>>().join(", ");
    let ansible = Ansible {
        playbooks,
        command: command?.unwrap_or_else(|| "ansible-playbook".to_owned()),
        extra_arguments: arguments[0].take()?.unwrap_or_default(),
        environment_vars: variables?,
        ssh_extra_args: arguments[1].take()?.unwrap_or_default(),
        groups: groups?.unwrap_or_default(),
        empty_groups: empty_groups?.unwrap_or_default(),
        host_alias: host_alias?.unwrap_or_else(|| "default".to_owned()),
        user: user?,
        limit: limit?,
        inventories: own_file?.into_iter().chain(own_folder?).collect(),
        inventory_line: line?.unwrap_or_else(|| INVENTORY.into()),
        galaxy: galaxy?,
        roles_path: roles?,
        collections_path: collections?,
        use_sftp: use_sftp?.unwrap_or_default(),
        folder: search.base(),
    };
    Some((label, ansible))
}

fn galaxy(reader: &mut Reader<'_>, fields: &mut Fields<'_>, search: &Search) -> Option<Option<Galaxy>> {
    let file = fields.get("galaxy_file");
    let command = fields.get("galaxy_command");
    let force = ["galaxy_force_install", "galaxy_force_with_deps"].map(|key| fields.get(key));
    let file = reader.optional(file, |reader, node| {
        let path = search.find(reader, node, Want::File)?;
        public(reader, node, path)
    });
    let command = reader.optional(command, word);
    let [force_install, force_with_deps] =
        force.map(|node| reader.optional(node, |reader, node| reader.parse(node, scalar::boolean)));
    let command = command?.unwrap_or_else(|| "ansible-galaxy".to_owned());
    let (force_install, force_with_deps) = (force_install?.unwrap_or_default(), force_with_deps?.unwrap_or_default());
    Some(file?.map(|file| Galaxy { file, command, force_install, force_with_deps }))
}

/// A path that stands in a command line.
fn public(reader: &mut Reader<'_>, node: &Node, path: HostPath) -> Option<HostPath> {
    if let Some(secret) = path.secrets.first() {
        reader.at(node.location(), format!("the secret `{secret}` cannot be used here"));
        return None;
    }
    Some(path)
}

/// A program, or a name of the inventory: on one line, without blanks.
fn word(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    reader.parse(node, scalar::word)
}

fn argument(reader: &mut Reader<'_>, node: &Node) -> Option<Text> {
    let text = reader.text(node)?;
    if let Some(secret) = text.secrets().first() {
        let message = format!("the secret `{secret}` cannot be an argument: everybody on the host can read those");
        let hint =
            "give it as `NAME={{ … }}` in `ansible_env_vars`, and take it in the playbook by `lookup('env', 'NAME')`";
        reader.problems.add(Problem::at(node.location(), message).hint(hint));
        return None;
    }
    Some(text)
}

fn inventory_line(reader: &mut Reader<'_>, node: &Node) -> Option<Text> {
    let text = reader.without_secrets(node)?;
    let (masked, used) = normalised(text.masked());
    let unknown: Vec<_> = used.iter().filter(|name| !VARIABLES.contains(&name.as_str())).collect();
    for name in &unknown {
        let message = format!("`inventory_file_template` has no variable `{{{{ .{name} }}}}`");
        let problem = Problem::at(node.location(), message);
        reader.problems.add(match suggestion(name, VARIABLES) {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
    }
    unknown.is_empty().then(|| Text::new(masked, normalised(text.plain()).0, text.secrets().clone()))
}
