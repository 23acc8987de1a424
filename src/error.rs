//! Errors as the user meets them: who, what, why, and what now.
//!
//! [`Error`] carries a [`Kind`], which alone decides the exit code (design: exit codes are a
//! contract), a sentence, its causes, and hints. Faults in a user's files are [`Problem`]s, which
//! point at file, line and column; several of them travel together in one error.

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

pub use cause::Cause;

mod cause;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure this is; each has its own exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The call or a user's file is wrong (exit 2).
    Usage,
    /// The host cannot do it: a missing tool, no space (exit 3).
    Host,
    /// The build failed (exit 4).
    Build,
    /// Verification failed (exit 5).
    Verification,
    /// The cloud refused or was not reachable (exit 6).
    Cloud,
    /// Interrupted by Ctrl-C (exit 130).
    Interrupted,
    /// Terminated by SIGTERM (exit 143).
    Terminated,
}

impl Kind {
    /// The process exit code of this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Host => 3,
            Self::Build => 4,
            Self::Verification => 5,
            Self::Cloud => 6,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

/// A place in a user's file. Lines and columns count from 1; columns count characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The file, as the user would name it (relative to the project where possible).
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// One fault in a user's file or call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is, when it is in a file.
    pub location: Option<Location>,
    /// A lower-case sentence without a full stop; names in backticks.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem that is not at a place in a file.
    pub fn new(message: impl Into<String>) -> Self {
        Self { location: None, message: message.into(), hint: None }
    }

    /// A problem at `location`.
    pub fn at(location: Location, message: impl Into<String>) -> Self {
        Self { location: Some(location), message: message.into(), hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// The error type of the crate.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    problems: Vec<Problem>,
    hints: Vec<String>,
    cause: Option<Box<Cause>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` with a lower-case sentence.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), problems: Vec::new(), hints: Vec::new(), cause: None, source: None }
    }

    /// The call or a user's file is wrong (exit 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The host cannot do it (exit 3).
    pub fn host(message: impl Into<String>) -> Self {
        Self::new(Kind::Host, message)
    }

    /// The build failed (exit 4).
    pub fn build(message: impl Into<String>) -> Self {
        Self::new(Kind::Build, message)
    }

    /// Several problems reported together; the order of `problems` is kept.
    pub fn problems(kind: Kind, problems: Vec<Problem>) -> Self {
        let message = match problems.len() {
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        };
        Self { problems, ..Self::new(kind, message) }
    }

    /// Several failures reported together, each with its causes and hints as a problem; the kind is the first one's. One
    /// alone stays as it is; none is no failure.
    pub fn several(mut errors: Vec<Self>) -> Option<Self> {
        if errors.len() < 2 {
            return errors.pop();
        }
        let kind = errors[0].kind();
        Some(Self::problems(kind, errors.iter().flat_map(Self::as_problems).collect()))
    }

    fn as_problems(&self) -> Vec<Problem> {
        if !self.problems.is_empty() {
            return self.problems.clone();
        }
        let problem = Problem::new(self.chain().join(": "));
        vec![if self.hints.is_empty() { problem } else { problem.hint(self.hints.join("\n")) }]
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says what it is about; what was said before is forgotten.
    #[must_use]
    pub fn caused_by(mut self, cause: Cause) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// Wraps this error in a sentence that says what was being done; kind, hints and cause stay.
    #[must_use]
    pub fn context(self, message: impl Into<String>) -> Self {
        let (kind, hints, cause) = (self.kind, self.hints.clone(), self.cause.clone());
        Self { hints, cause, source: Some(Box::new(self)), ..Self::new(kind, message) }
    }

    /// Changes the kind: what looked like a failure was a signal, say.
    #[must_use]
    pub fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The kind, which decides the exit code.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What it is about, where whoever made it has said.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_deref()
    }

    /// The problems reported together, empty for a single failure.
    pub fn problem_list(&self) -> &[Problem] {
        &self.problems
    }

    /// What the user can do about it.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The sentences from this error down to its last cause.
    pub fn chain(&self) -> Vec<String> {
        let mut chain = vec![self.message.clone()];
        let mut next = self.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if chain.last() != Some(&text) {
                chain.push(text);
            }
            next = cause.source();
        }
        chain
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for problem in &self.problems {
            write!(f, "\n{problem}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as &(dyn StdError + 'static))
    }
}

/// Adds what was being done to a foreign error.
pub trait Context<T> {
    /// Turns the error into one of `kind` with the sentence that `message` makes.
    ///
    /// # Errors
    /// The error of `self`, wrapped.
    fn context<M: Into<String>>(self, kind: Kind, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context<M: Into<String>>(self, kind: Kind, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|error| Error::new(kind, message()).because(error))
    }
}

/// Reads a text file; a missing or unreadable one is an error of `kind` that names it.
///
/// # Errors
/// The file is missing, unreadable, or not UTF-8.
pub fn read_to_string(kind: Kind, path: &Path) -> Result<String> {
    std::fs::read_to_string(path).context(kind, || format!("reading {}", path.display()))
}
