//! What is wrong with a boot command.

use std::fmt;

use crate::error::{Location, Problem};

/// A fault with its place in the list of strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which string of the list, from 0.
    pub string: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// A lower-case sentence without a full stop; names in backticks.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Fault {
    /// The problem in the user's file; `location` is where the list is, or the string itself.
    pub fn into_problem(self, location: Option<Location>) -> Problem {
        let text = self.to_string();
        let mut problem = location.map_or_else(|| Problem::new(text.clone()), |at| Problem::at(at, text.clone()));
        problem.hint = self.hint;
        problem
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`boot_command[{}]`, column {}: {}", self.string, self.column, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_becomes_a_problem_at_its_place() {
        let fault = Fault { string: 1, column: 7, message: "no".to_owned(), hint: Some("yes".to_owned()) };
        let place = Location { file: "a.yml".into(), line: 3, column: 5 };
        let problem = fault.clone().into_problem(Some(place));
        assert_eq!(problem.to_string(), "a.yml:3:5: `boot_command[1]`, column 7: no");
        assert_eq!(problem.hint.as_deref(), Some("yes"));
        assert_eq!(fault.into_problem(None).to_string(), "`boot_command[1]`, column 7: no");
    }
}
