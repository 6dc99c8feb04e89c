//! Tests of files that change, vanish and block.

use super::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::path::Path;
use std::sync::mpsc as std_mpsc;
use std::time::Instant;

fn watched(path: &Path, first: Option<&str>) -> Watched<String> {
    let parse = |text: &str| match text.trim() {
        "" => Err("a file that is not empty".to_owned()),
        word => Ok(word.to_owned()),
    };
    let (file, watch) = Watched::file("test.file", path.to_owned(), first.map(str::to_owned), parse);
    tokio::spawn(watch);
    file
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

#[tokio::test]
async fn a_file_is_read_when_somebody_asks_and_once_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "one\n").unwrap();
    let file = watched(&path, None);
    assert_eq!(file.fresh().await.unwrap(), "one");
    std::fs::write(&path, "two\n").unwrap();
    assert_eq!(file.fresh().await.unwrap(), "two");

    let mut followed = file.follow();
    std::fs::write(&path, "three\n").unwrap();
    followed.wait_for(|seen| seen.good.as_deref() == Some("three")).await.unwrap();
}

#[tokio::test]
async fn a_link_that_is_swapped_is_another_content() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for version in ["one", "two"] {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("file"), version).unwrap();
    }
    std::os::unix::fs::symlink(at("one"), at("data")).unwrap();
    std::os::unix::fs::symlink("data/file", at("file")).unwrap();
    let file = watched(&at("file"), None);
    assert_eq!(file.fresh().await.unwrap(), "one");

    std::os::unix::fs::symlink(at("two"), at("data_tmp")).unwrap();
    std::fs::rename(at("data_tmp"), at("data")).unwrap();
    assert_eq!(file.fresh().await.unwrap(), "two");
}

#[tokio::test]
async fn the_last_good_content_outlives_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "good").unwrap();
    let file = watched(&path, None);
    assert_eq!(file.fresh().await.unwrap(), "good");
    for spoil in [
        |path: &Path| std::fs::write(path, "").unwrap(),
        |path: &Path| {
            std::fs::remove_file(path).unwrap();
            fifo(path);
        },
    ] {
        spoil(&path);
        assert_eq!(file.fresh().await.unwrap(), "good");
        assert!(file.follow().borrow().problem.is_some());
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "better").unwrap();
    assert_eq!(file.fresh().await.unwrap(), "better");
    assert!(file.follow().borrow().problem.is_none());
}

#[tokio::test]
async fn a_file_that_never_was_good_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let file = watched(&path, None);
    assert!(file.fresh().await.unwrap_err().starts_with("expected a readable file: "));
    fifo(&path);
    assert_eq!(file.fresh().await.unwrap_err(), "expected a file that can be read within 1s");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "\n").unwrap();
    assert_eq!(file.fresh().await.unwrap_err(), "expected a file that is not empty");
}

#[tokio::test]
async fn what_is_written_into_a_fifo_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    fifo(&path);
    let file = watched(&path, None);
    let writer = std::thread::spawn(move || std::fs::write(path, "from a program\n").unwrap());
    let mut followed = file.follow();
    followed.wait_for(|seen| seen.good.as_deref() == Some("from a program")).await.unwrap();
    writer.join().unwrap();
}

/// Reads of a disk that answers only when the test says so.
fn stuck() -> (Watched<u32>, std_mpsc::Sender<u32>) {
    let (disk, answers) = std_mpsc::channel();
    let (file, watch) = Watched::on_demand("a dead mount", move || answers.recv().map_err(|e| e.to_string()));
    tokio::spawn(watch);
    (file, disk)
}

#[tokio::test(start_paused = true)]
async fn a_read_that_hangs_delays_each_caller_by_two_seconds_at_most_and_later_ones_not_at_all() {
    let (file, disk) = stuck();
    let begun = tokio::time::Instant::now();
    assert!(file.fresh().await.is_err());
    assert!(begun.elapsed() <= READ_MAX * 2);
    let begun = tokio::time::Instant::now();
    for _ in 0..100 {
        assert!(file.fresh().await.is_err());
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);

    // The mount answers again.
    disk.send(7).unwrap();
    let mut followed = file.follow();
    followed.wait_for(|seen| seen.good == Some(7)).await.unwrap();
}

#[test]
fn at_the_start_a_file_that_blocks_is_late() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    fifo(&path);
    let begun = Instant::now();
    assert!(matches!(read_text_in_time(&path), Err(Unread::Late)));
    assert!(begun.elapsed() < Duration::from_secs(60), "it waits for nobody");
    assert!(matches!(read_text_in_time(Path::new("/dev/zero")), Err(Unread::TooLong)));
}
