use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::answers::web::Request;

fn class(error: &Error) -> FailureClass {
    FailureClass::of(error, &Evidence::default())
}

fn caused(cause: Cause) -> FailureClass {
    class(&Error::build("x").caused_by(cause).context("building `t`"))
}

#[test]
fn each_class_is_there_once_with_a_name_and_words_of_its_own() {
    let codes: BTreeSet<_> = FailureClass::ALL.iter().map(|class| class.code()).collect();
    let words: BTreeSet<_> = FailureClass::ALL.iter().map(|class| class.words()).collect();
    assert_eq!((codes.len(), words.len()), (FailureClass::ALL.len(), FailureClass::ALL.len()));
    // The last of the enumeration: a new one must be among them.
    assert_eq!(FailureClass::Other as usize + 1, FailureClass::ALL.len());
}

#[test]
fn the_innermost_fact_decides_however_often_it_is_wrapped() {
    let ended = |ended: Ended| class(&Error::from(ended).context("step").context("building `t`"));
    assert_eq!(ended(Ended::NoBoot { line: String::new() }), FailureClass::NothingToBoot);
    assert_eq!(ended(Ended::DiskFull { path: "/d".into(), free: None }), FailureClass::DiskFull);
    assert_eq!(ended(Ended::Idle { quiet: Duration::from_secs(1) }), FailureClass::SitsOnScreen);
    assert_eq!(caused(Cause::Ssh(SshFault::Closed)), FailureClass::SshClosed);
    assert_eq!(caused(Cause::TimedOut), FailureClass::TimedOut);
}

#[test]
fn a_signal_is_the_reason_whatever_failed_because_of_it() {
    let error = Error::new(Kind::Interrupted, "stopped").caused_by(Cause::TimedOut);
    assert_eq!(class(&error), FailureClass::Interrupted);
}

#[test]
fn a_full_disk_is_known_where_no_machine_tells() {
    let full = Error::host("cannot write x").because(io::Error::from(io::ErrorKind::StorageFull)).context("sealing");
    assert_eq!(class(&full), FailureClass::DiskFull);
    assert_eq!(class(&Error::host("no such tool")), FailureClass::Host);
    assert_eq!(class(&Error::build("x")), FailureClass::Other);
}

#[test]
fn what_was_seen_of_the_guest_explains_why_it_got_nowhere() {
    let idle = || Error::from(Ended::Idle { quiet: Duration::from_secs(1) });
    let unasked = Evidence { requests: Some(Vec::new()), ..Evidence::default() };
    assert_eq!(FailureClass::of(&idle(), &unasked), FailureClass::AnswersNotFetched);
    let late = Error::build("x").caused_by(Cause::TimedOut);
    assert_eq!(FailureClass::of(&late, &unasked), FailureClass::AnswersNotFetched);
    let mute = Evidence { mute: true, ..unasked };
    assert_eq!(FailureClass::of(&idle(), &mute), FailureClass::NoNetwork);
    let request = Request {
        seconds: 1.0,
        method: "GET".to_owned(),
        path: "/preseed.cfg".to_owned(),
        status: 200,
        user_agent: None,
        bytes: 1,
        complete: true,
    };
    let asked = Evidence { mute: true, requests: Some(vec![request]), ..Evidence::default() };
    assert_eq!(FailureClass::of(&idle(), &asked), FailureClass::SitsOnScreen);
    let silent = Error::build("x").caused_by(Cause::Ssh(SshFault::NeverAnswered));
    assert_eq!(FailureClass::of(&silent, &mute), FailureClass::NoNetwork);
    assert_eq!(class(&silent), FailureClass::SshNeverAnswered);
}

#[test]
fn a_steps_name_and_exit_code_are_told() {
    let cause = Cause::Step { name: "inline".into(), outcome: Some(Outcome::Exit(7)) };
    let details = Details::of(&Error::build("x").caused_by(cause));
    assert_eq!(details, Details { step: Some("inline".into()), exit_code: Some(7), signal: None });
    let killed = Error::from(Ended::Killed { program: "QEMU", signal: 11, stderr: String::new() });
    assert_eq!(Details::of(&killed).signal.as_deref(), Some("11"));
}
