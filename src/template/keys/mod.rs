//! Every key that a project's files may have: its form, what it means, and what becomes of Packer's options.
//!
//! These tables are what the resolver knows keys by ([`Fields::finish_as`](super::fields::Fields)), what the JSON
//! schemas are made of ([`schema`](super::schema)) and what docs/packer-options.md is written from
//! ([`options`](super::options)), so none of the three can say what another does not.

mod ansible;
pub(crate) mod builder;
pub(crate) mod machine;
pub(crate) mod post_processor;
pub(crate) mod project;
pub(crate) mod provisioner;
#[cfg(test)]
mod tests;

/// What a value has to look like, before or after its variables are filled in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    /// Any scalar: numbers and booleans count as text.
    Text,
    /// A scalar in which nothing is filled in (`config.yml`, `environment.yml`).
    Plain,
    Boolean,
    /// A whole number from this one.
    Number(u64),
    /// With an optional unit.
    Size,
    /// Go's form, where a negative one means none.
    Duration,
    /// Octal.
    Mode,
    /// Without blanks and commas, not beginning with a hyphen.
    Word,
    /// One of these names.
    OneOf(fn() -> Vec<&'static str>),
    /// One of these names, in which nothing is filled in.
    Exactly(fn() -> Vec<&'static str>),
    List(&'static Form),
    /// A list that is not empty.
    Some(&'static Form),
    /// Names to values.
    Map(&'static Map),
    Table(&'static Table),
    /// A mapping whose `type` says which table it is.
    ByType(&'static [(&'static str, &'static Table)]),
    Either(&'static [Form]),
}

/// A mapping with names of the user's own.
#[derive(Debug)]
pub(crate) struct Map {
    /// What names have to look like, as a regular expression.
    pub(crate) names: Option<&'static str>,
    pub(crate) value: Form,
    /// Values may be left out.
    pub(crate) or_nothing: bool,
    /// At least one is needed.
    pub(crate) some: bool,
}

/// What visabuild does with a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Effect {
    /// What the key's description says.
    Works,
    /// It is read, and nothing depends on it.
    Ignored,
    /// Only this value is taken.
    Fixed {
        value: &'static str,
        #[cfg_attr(not(test), expect(dead_code, reason = "a test sees it refused"))]
        other: &'static str,
        refusal: Refusal,
    },
    /// No value is taken.
    Refused(Refusal),
}

/// Why an option of Packer's is not taken, and what does the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    pub(crate) why: &'static str,
    pub(crate) instead: &'static str,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    /// A good value, as YAML.
    pub(crate) example: &'static str,
    /// Further keys that it needs beside it, as YAML of a mapping's inside.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test puts the example through the resolver"))]
    pub(crate) beside: &'static str,
    /// What it means here, or why nothing depends on it.
    pub(crate) about: &'static str,
    /// Its default in Packer; none where Packer has no such option.
    pub(crate) packer: Option<&'static str>,
    pub(crate) is_required: bool,
    pub(crate) effect: Effect,
}

impl Key {
    /// A key of visabuild's own.
    pub(crate) const fn own(name: &'static str, form: Form, example: &'static str, about: &'static str) -> Self {
        let (beside, packer, is_required) = ("", None, false);
        Self { name, form, example, beside, about, packer, is_required, effect: Effect::Works }
    }

    /// An option of Packer's, with its default there, that works.
    pub(crate) const fn packer(
        name: &'static str,
        default: &'static str,
        form: Form,
        example: &'static str,
        about: &'static str,
    ) -> Self {
        Self { packer: Some(default), ..Self::own(name, form, example, about) }
    }

    /// An option of Packer's on which nothing depends here, and why.
    pub(crate) const fn ignored(
        name: &'static str,
        default: &'static str,
        example: &'static str,
        why: &'static str,
    ) -> Self {
        Self { effect: Effect::Ignored, ..Self::packer(name, default, Form::Text, example, why) }
    }

    /// An option of Packer's that is not taken: why, and what does the same.
    pub(crate) const fn refused(
        name: &'static str,
        default: &'static str,
        why: &'static str,
        instead: &'static str,
    ) -> Self {
        Self { effect: Effect::Refused(Refusal { why, instead }), ..Self::packer(name, default, Form::Text, "x", "") }
    }

    /// An option of Packer's that can have the one `value` only, not the `other`: why, and what does the same.
    pub(crate) const fn fixed(
        name: &'static str,
        default: &'static str,
        (form, value, other): (Form, &'static str, &'static str),
        why: &'static str,
        instead: &'static str,
    ) -> Self {
        let effect = Effect::Fixed { value, other, refusal: Refusal { why, instead } };
        Self { effect, ..Self::packer(name, default, form, value, "") }
    }

    pub(crate) const fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    pub(crate) const fn beside(self, beside: &'static str) -> Self {
        Self { beside, ..self }
    }

    /// Whether some value of it is taken.
    pub(crate) fn is_taken(&self) -> bool {
        !matches!(self.effect, Effect::Refused(_))
    }
}

/// Keys of one origin.
#[derive(Debug)]
pub(crate) struct Group {
    /// Whose options they are (`Packer's SSH communicator`).
    pub(crate) whose: &'static str,
    pub(crate) keys: &'static [Key],
}

/// The keys of one kind of mapping.
#[derive(Debug)]
pub(crate) struct Table {
    /// Its name in a schema.
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) groups: &'static [&'static Group],
    /// Keys of which exactly one is needed.
    pub(crate) one_of: &'static [&'static str],
}

impl Table {
    /// Its keys with whose they are.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&'static str, &'static Key)> + Clone {
        self.groups.iter().flat_map(|group| group.keys.iter().map(|key| (group.whose, key)))
    }

    pub(crate) fn find(&self, name: &str) -> Option<(&'static str, &'static Key)> {
        self.keys().find(|(_, key)| key.name == name)
    }
}
