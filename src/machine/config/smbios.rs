//! SMBIOS: what a guest reads about its machine in the firmware's tables (dmidecode(8)).

use super::arguments::{Arguments, Value};

/// What the tables say beside QEMU's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Smbios {
    /// Fields of the system (type 1) as QEMU names them: `manufacturer`, `product`, `version`, `serial`,
    /// `uuid`, `sku` and `family`. cloud-init reads `serial`: `ds=nocloud;s=http://…`.
    pub system: Vec<(&'static str, String)>,
    /// Strings of the manufacturer (type 11), which systemd reads credentials from:
    /// `io.systemd.credential:NAME=VALUE`.
    pub oem_strings: Vec<String>,
}

impl Smbios {
    pub(super) fn arguments(&self, arguments: &mut Arguments) {
        let mut table = |kind: &str, fields: Vec<(&str, &String)>| {
            if fields.is_empty() {
                return;
            }
            let value = fields
                .into_iter()
                .fold(Value::new(kind), |value, (field, text)| value.text(&format!(",{field}=")).path(text.as_ref()));
            arguments.option("-smbios", value);
        };
        table("type=1", self.system.iter().map(|(field, text)| (*field, text)).collect());
        table("type=11", self.oem_strings.iter().map(|text| ("value", text)).collect());
    }
}
