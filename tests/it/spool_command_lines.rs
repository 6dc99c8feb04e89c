//! How `amqpost spool` reads its command line, and its messages about errors in it.

use crate::harness::stocked::{Stocked, documents};
use std::fs::File;
use std::process::Command;

#[tokio::test]
async fn a_command_that_makes_no_sense_is_refused_before_anything_happens() {
    let stocked = Stocked::new().await;
    for arguments in [&["redrive"][..], &["park"], &["drop"], &["drop", "--state", "parked"]] {
        assert_eq!(stocked.refused(arguments).await.0, Some(2), "{arguments:?}");
    }
    for arguments in [&["redrive", "1", "--all"][..], &["drop", "--all"], &["ls", "--state", "lost"]] {
        assert_eq!(stocked.refused(arguments).await.0, Some(2), "{arguments:?}");
    }
    assert_eq!(stocked.listed(&[]).await.len(), 9);
    let nowhere = Stocked::empty();
    let no_spool = format!("there is no spool in {}\n", nowhere.path().display());
    for command in [&["status"][..], &["ls"], &["verify"], &["export"], &["redrive", "1"]] {
        assert_eq!(nowhere.refused(command).await, (Some(1), no_spool.clone()), "{command:?}");
    }
    assert!(!nowhere.path().exists(), "nothing is made by looking");
}

#[tokio::test]
async fn numbers_and_options_that_choose_exclude_each_other() {
    let stocked = Stocked::new().await;
    for arguments in [
        &["drop", "1", "--state", "ready"][..],
        &["drop", "1", "--routing-key", "a"],
        &["park", "5", "--all"],
        &["redrive", "1", "--reason", "unroutable"],
        &["export", "1", "--state", "parked"],
        &["export", "1", "--exchange", "amq.topic"],
    ] {
        let (code, why) = stocked.refused(arguments).await;
        assert!(code == Some(2) && why.contains("expected either numbers"), "{arguments:?}: {why}");
    }
    assert_eq!(stocked.listed(&["--state", "parked"]).await, [1, 2, 4, 7]);
}

#[tokio::test]
async fn a_reason_to_choose_by_is_refused_where_it_can_only_be_meant_as_the_one_to_give() {
    let stocked = Stocked::new().await;
    let (code, why) = stocked.refused(&["park", "--routing-key", "c", "--reason", "poison"]).await;
    assert!(code == Some(2) && why.contains("--because"), "{why}");
}

#[tokio::test]
async fn a_number_that_is_given_twice_is_one_message() {
    let stocked = Stocked::new().await;
    assert_eq!(stocked.said(&["redrive", "1", "1"]).await, "1 of 1 messages to be delivered again\n");
    assert_eq!(documents(&stocked.said(&["export", "2", "1", "2"]).await).len(), 2);
    assert_eq!(stocked.said(&["drop", "1", "1"]).await, "1 of 1 messages removed\n", "and wants no --yes");
}

#[tokio::test]
async fn an_export_takes_the_switch_of_the_others_and_is_json_without_it() {
    let stocked = Stocked::new().await;
    let exported = stocked.said(&["export", "--json", "--state", "parked"]).await;
    assert_eq!(documents(&exported).len(), 4);
    assert_eq!(exported, stocked.said(&["export", "--state", "parked"]).await);
}

#[tokio::test]
async fn a_number_that_is_not_there_is_not_exported_in_silence() {
    let stocked = Stocked::new().await;
    let output = stocked.run(&["export", "1", "77"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(documents(&String::from_utf8(output.stdout).unwrap()).len(), 1, "the other one is written");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "1 of them is not in the spool\n");
}

#[tokio::test]
async fn a_change_that_cannot_be_reported_ends_with_its_reason_and_no_panic() {
    let stocked = Stocked::new().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_amqpost"));
    command.args(["spool", "redrive", "1", "--path"]).arg(stocked.path());
    command.stdout(File::options().write(true).open("/dev/full").expect("Linux has it"));
    let output = command.output().expect("it starts");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(stocked.listed(&["--state", "parked"]).await, [2, 4, 7], "it was made");
}
