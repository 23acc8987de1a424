//! Options that a template may leave out: its parent's word counts then.

use super::fields::Reader;
use super::scalar::Expected;
use super::yaml::Node;

/// Declares a struct of options, named as their keys, each with what reads its node; whatever is wrong
/// is reported, all at once.
macro_rules! facts {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $read:expr,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
        pub struct $name {
            $($(#[$doc])* pub $field: Option<$type>,)*
        }

        impl $name {
            /// Reads the options out of `fields`.
            pub(super) fn read(
                reader: &mut crate::template::fields::Reader<'_>,
                fields: &mut crate::template::fields::Fields<'_>,
            ) -> Option<Self> {
                $(let $field = reader.optional(fields.get(stringify!($field)), $read);)*
                Some(Self { $($field: $field?,)* })
            }

            /// These options with the parent's word on what they leave out.
            pub(super) fn or(self, parent: &Self) -> Self {
                Self { $($field: self.$field.or_else(|| parent.$field.clone()),)* }
            }
        }
    };
}
pub(super) use facts;

/// Reads a node as `parse` understands it.
pub(super) fn by<T>(parse: fn(&str) -> Result<T, Expected>) -> impl FnOnce(&mut Reader<'_>, &Node) -> Option<T> {
    move |reader, node| reader.parse(node, parse)
}

/// The names of such values.
pub(crate) fn names<T>(values: &[(&'static str, T)]) -> Vec<&'static str> {
    values.iter().map(|(name, _)| *name).collect()
}

/// Reads one of the named values; which there are is told with what was found instead.
pub(super) fn one_of<T: Copy>(names: &'static [(&'static str, T)]) -> impl FnOnce(&mut Reader<'_>, &Node) -> Option<T> {
    move |reader, node| {
        let text = reader.public(node)?;
        let found = names.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let known: Vec<_> = names.iter().map(|(name, _)| format!("`{name}`")).collect();
            reader.at(node.location(), format!("expected one of {}, found `{text}`", known.join(", ")));
        }
        found.map(|(_, value)| *value)
    }
}
