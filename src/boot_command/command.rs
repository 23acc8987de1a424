//! A parsed boot command, and how it is written.

use std::fmt;
use std::time::Duration;

use super::duration::written;
use super::fault::Fault;
use super::key::Key;
use super::parse;
use super::variable::{Use, Values};
use crate::error::{Error, Result};

/// How long a wait for the screen lasts when the command does not say.
pub const SCREEN_TIMEOUT: Duration = Duration::from_secs(300);

/// What is done, in groups: one for each string of the list in the template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootCommand {
    groups: Vec<Vec<Step>>,
}

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A key is pressed and released.
    Press(Key),
    /// A key is held down.
    Hold(Key),
    /// A key that was held is let go.
    Release(Key),
    /// Nothing is done for a while.
    Wait(Duration),
    /// Nothing is done until the screen shows something.
    WaitForScreen(ScreenWait),
    /// A variable's value is typed.
    Variable(Use),
}

/// A wait for the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScreenWait {
    /// What is waited for.
    pub until: Until,
    /// When to give up.
    pub timeout: Duration,
}

/// What a screen is waited to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Until {
    /// Nothing but a blinking cursor changes for so long.
    Stable(Duration),
    /// A picture.
    Image {
        /// A PNG file, relative to the template's folder.
        file: String,
        /// Where on the screen; all of it if it is not said.
        region: Option<Region>,
    },
    /// A text, read by OCR.
    Text {
        /// The text; case, white space and letters that OCR confuses make no difference.
        text: String,
        /// Where on the screen; all of it if it is not said.
        region: Option<Region>,
    },
}

/// A rectangle of the screen, pixels from the upper left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width, not 0.
    pub width: u32,
    /// Height, not 0.
    pub height: u32,
}

impl BootCommand {
    /// Parses the strings of a template's `boot_command`. As in Packer they are one text, so that a key's name may
    /// even begin in one and end in the next.
    ///
    /// # Errors
    /// All faults, in the order of their places.
    pub fn parse<S: AsRef<str>>(strings: &[S]) -> Result<Self, Vec<Fault>> {
        parse::parse(strings).map(|groups| Self { groups })
    }

    /// The groups of steps.
    pub fn groups(&self) -> &[Vec<Step>] {
        &self.groups
    }

    /// All steps.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.groups.iter().flatten()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps().next().is_none()
    }

    /// The PNG files that are waited for, as written.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        self.steps().filter_map(|step| match step {
            Step::WaitForScreen(ScreenWait { until: Until::Image { file, .. }, .. }) => Some(file.as_str()),
            _ => None,
        })
    }

    /// Whether a program that reads text off the screen is needed.
    pub fn needs_ocr(&self) -> bool {
        self.steps().any(|step| matches!(step, Step::WaitForScreen(ScreenWait { until: Until::Text { .. }, .. })))
    }

    /// The command with its variables' values in their place. A value is typed as it is: nothing in it is a key's
    /// name.
    ///
    /// # Errors
    /// A value is not there, or has a character that no key types.
    pub fn bind(&self, values: &Values) -> Result<Self> {
        let bind = |group: &Vec<Step>| {
            let mut steps = Vec::with_capacity(group.len());
            for step in group {
                match step {
                    Step::Variable(variable) => steps.extend(typed(*variable, values)?),
                    step => steps.push(step.clone()),
                }
            }
            Ok(steps)
        };
        Ok(Self { groups: self.groups.iter().map(bind).collect::<Result<_>>()? })
    }

    /// The strings that parse to this command.
    pub fn to_strings(&self) -> Vec<String> {
        self.groups.iter().map(|group| group.iter().map(Step::to_string).collect()).collect()
    }
}

fn typed(variable: Use, values: &Values) -> Result<Vec<Step>> {
    let name = variable.variable.name();
    let value = values
        .get(&variable.variable)
        .ok_or_else(|| Error::usage(format!("the boot command uses `{variable}`, which has no value here")))?;
    let key = |character| {
        let key = Key::of_char(character).ok_or_else(|| {
            Error::usage(format!("the boot command cannot type {character:?}, which is in the value of `{name}`"))
                .hint(format!("write `{{{{ .{name} | urlquery }}}}` if whatever reads it decodes URLs"))
        })?;
        Ok(Step::Press(key))
    };
    variable.text(value).chars().map(key).collect()
}

impl fmt::Display for BootCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps().try_for_each(|step| step.fmt(f))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Press(key) => key.fmt(f),
            Self::Hold(key) => write!(f, "<{}On>", key.name()),
            Self::Release(key) => write!(f, "<{}Off>", key.name()),
            Self::Wait(duration) => write!(f, "<wait{}>", written(*duration)),
            Self::WaitForScreen(wait) => wait.fmt(f),
            Self::Variable(variable) => variable.fmt(f),
        }
    }
}

impl fmt::Display for ScreenWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<waitForScreen {} {}>", self.until, written(self.timeout))
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, what, region) = match self {
            Self::Stable(quiet) => return write!(f, "stable {}", written(*quiet)),
            Self::Image { file, region } => ("image", file, region),
            Self::Text { text, region } => ("text", text, region),
        };
        write!(f, "{kind} \"{}\"", what.replace('\\', "\\\\").replace('"', "\\\""))?;
        region.map_or(Ok(()), |region| write!(f, " {region}"))
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{},{},{},{}]", self.x, self.y, self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot_command::variable::Variable;

    #[test]
    fn variables_are_typed_as_they_are() {
        let command = BootCommand::parse(&["u={{ .HTTPIP }}:{{.HTTPPort}}<enter>", "{{ .Name|urlquery }}"]).unwrap();
        let mut values = Values::from([(Variable::HttpIp, "10.0.2.2".to_owned())]);
        let error = command.bind(&values).unwrap_err();
        assert_eq!(error.to_string(), "the boot command uses `{{ .HTTPPort }}`, which has no value here");
        values.insert(Variable::HttpPort, "80".to_owned());
        values.insert(Variable::Name, "<wait> é".to_owned());
        let bound = command.bind(&values).unwrap();
        assert_eq!(bound.to_strings(), ["u=10.0.2.2:80<enter>", "%3Cwait%3E+%C3%A9"]);
        let command = BootCommand::parse(&["{{ .Name }}"]).unwrap();
        let error = command.bind(&values).unwrap_err();
        assert_eq!(error.to_string(), "the boot command cannot type 'é', which is in the value of `Name`");
        values.insert(Variable::Name, "<wait>".to_owned());
        assert_eq!(command.bind(&values).unwrap().to_string(), "<less>wait>");
    }

    #[test]
    fn what_has_to_be_there_is_known_before() {
        let command = BootCommand::parse(&["<waitForScreen image a.png>x<waitForScreen text login:>"]).unwrap();
        assert_eq!(command.images().collect::<Vec<_>>(), ["a.png"]);
        assert!(command.needs_ocr() && !command.is_empty());
        assert!(BootCommand::parse(&["", ""]).unwrap().is_empty());
    }
}
