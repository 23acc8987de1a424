//! What the cloud tells an instance, in the forms of OpenStack's configuration drive and of NoCloud.
//!
//! Sources: OpenStack Nova, "Metadata service" and "Config drives" of the user guide; cloud-init's
//! documentation of its data sources ConfigDrive and NoCloud. The key for the checks' commands is
//! among them, as a user's key pair would be, and nowhere else.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::contract::{Boot, DataSource};
use crate::error::{Context, Kind, Result};
use crate::machine::write_volume;

/// The address that QEMU's network gives to its first guest.
pub(super) const ADDRESS: &str = "10.0.2.15";

/// QEMU's address of the first network interface.
const MAC: &str = "52:54:00:12:34:56";

/// Lets the key pair in for root too: the cloud's own word (vendor data), beside which the boot
/// command stays as it is.
const VENDOR_DATA: &str = "#cloud-config\ndisable_root: false\n";

/// What one instance is told.
#[derive(Debug)]
pub(super) struct Metadata<'a> {
    pub(super) boot: &'a Boot,
    /// The server's UUID.
    pub(super) uuid: &'a str,
    /// The platform's keys and values.
    pub(super) values: &'a [(String, String)],
    /// A line of authorized_keys(5).
    pub(super) key: &'a str,
}

impl Metadata<'_> {
    /// Writes the drive that brings them to the guest.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let (label, files) = match self.boot.source {
            DataSource::ConfigDrive => ("config-2", self.config_drive()),
            DataSource::NoCloud => ("CIDATA", self.nocloud()),
        };
        write_volume(path, label, &files).context(Kind::Host, || format!("writing {}", path.display()))
    }

    fn meta(&self) -> Value {
        let pairs = self.values.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())));
        Value::Object(pairs.collect::<Map<_, _>>())
    }

    fn config_drive(&self) -> Vec<(&'static str, String)> {
        let meta_data = json!({
            "uuid": self.uuid,
            "name": "visabuild-verify",
            "hostname": "visabuild-verify.novalocal",
            "availability_zone": "nova",
            "launch_index": 0,
            "project_id": "0".repeat(32),
            "devices": [],
            "meta": self.meta(),
            "public_keys": { "verify": self.key },
            "keys": [{ "name": "verify", "type": "ssh", "data": self.key }],
        });
        let network = json!({
            "links": [{ "id": "tap0", "type": "phy", "ethernet_mac_address": MAC, "mtu": 1500 }],
            "networks": [{ "id": "network0", "link": "tap0", "type": "ipv4_dhcp", "network_id": self.uuid }],
            "services": [],
        });
        let mut files = vec![
            ("openstack/latest/meta_data.json", meta_data.to_string()),
            ("openstack/latest/network_data.json", network.to_string()),
            ("openstack/latest/vendor_data.json", json!({ "cloud-init": VENDOR_DATA }).to_string()),
        ];
        files.extend(self.boot.user_data.clone().map(|text| ("openstack/latest/user_data", text)));
        files
    }

    fn nocloud(&self) -> Vec<(&'static str, String)> {
        let meta_data = json!({
            "instance-id": self.uuid,
            "local-hostname": "visabuild-verify",
            "public-keys": [self.key],
            "meta": self.meta(),
        });
        vec![
            ("meta-data", meta_data.to_string()),
            // It must be there; an empty one is none.
            ("user-data", self.boot.user_data.clone().unwrap_or_default()),
            ("vendor-data", VENDOR_DATA.to_owned()),
        ]
    }
}
