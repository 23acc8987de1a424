//! What builders say about their machine.

use super::communicator::Communicator;
use super::fields::{Fields, Reader};
use super::hardware::Hardware;
use super::keys::Table;
use super::{Machine, scalar};

/// What builders may say about their machine, and what of `table` has no effect or one value only. `name` is checked,
/// but the template's name decides.
pub(super) fn machine(reader: &mut Reader<'_>, fields: &mut Fields<'_>, table: &'static Table) -> Option<Machine> {
    let settled = reader.settle(fields, table);
    let name = fields.get("name");
    let (memory, cpus, disk_size) = (fields.get("memory"), fields.get("cpus"), fields.get("disk_size"));
    let (cpu_model, idle_timeout) = (fields.get("cpu_model"), fields.get("idle_timeout"));
    let (ssh_timeout, old_ssh_timeout) = (fields.get("ssh_timeout"), fields.entry("ssh_wait_timeout"));
    let shutdown_timeout = fields.get("shutdown_timeout");
    let twice = old_ssh_timeout.filter(|_| ssh_timeout.is_some());
    if let Some(old) = twice {
        reader.at(old.location(), "`ssh_wait_timeout` is the old name of `ssh_timeout`, and cannot stand beside it");
    }
    let ssh_timeout = ssh_timeout.or(old_ssh_timeout.map(|entry| &entry.value));

    let name = reader.optional(name, Reader::public);
    let memory = reader.optional(memory, |reader, node| reader.parse(node, scalar::count));
    let cpus = reader.optional(cpus, |reader, node| reader.parse(node, scalar::count));
    let disk_size = reader.optional(disk_size, |reader, node| reader.parse(node, scalar::size));
    let cpu_model = reader.optional(cpu_model, |reader, node| reader.parse(node, scalar::cpu_model));
    let ssh_timeout = reader.optional(ssh_timeout, |reader, node| reader.parse(node, scalar::duration));
    let idle_timeout = reader.optional(idle_timeout, |reader, node| reader.parse(node, scalar::duration));
    let shutdown_timeout = reader.optional(shutdown_timeout, |reader, node| reader.parse(node, scalar::duration));
    let hardware = Hardware::read(reader, fields);
    let communicator = Communicator::read(reader, fields);
    name?;
    settled?;
    twice.is_none().then_some(())?;
    Some(Machine {
        memory: memory?,
        cpus: cpus?,
        disk_size: disk_size?,
        cpu_model: cpu_model?,
        ssh_timeout: ssh_timeout?,
        idle_timeout: idle_timeout?,
        shutdown_timeout: shutdown_timeout?,
        hardware: hardware?,
        communicator: communicator?,
    })
}

impl Machine {
    /// This machine with the parent's word on what it leaves out. The disk grows only where it is asked to.
    pub(super) fn with_parent(self, parent: &Self) -> Self {
        Self {
            memory: self.memory.or(parent.memory),
            cpus: self.cpus.or(parent.cpus),
            disk_size: self.disk_size,
            cpu_model: self.cpu_model.or_else(|| parent.cpu_model.clone()),
            ssh_timeout: self.ssh_timeout.or(parent.ssh_timeout),
            idle_timeout: self.idle_timeout.or(parent.idle_timeout),
            shutdown_timeout: self.shutdown_timeout.or(parent.shutdown_timeout),
            hardware: self.hardware.or(&parent.hardware),
            communicator: self.communicator.or(&parent.communicator),
        }
    }
}
