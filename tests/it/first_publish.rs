//! The first publishes of README.md work, in every installed language.

use crate::harness::*;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// How a line of the README becomes a program whose argument is the URL. Go is left out, because
/// compiling takes too long.
struct Language {
    name: &'static str,
    command: &'static [&'static str],
    before: &'static str,
    after: &'static str,
}

const LANGUAGES: &[Language] = &[
    Language {
        name: "Python",
        command: &["python3", "-c"],
        before: "import sys, urllib.request\nurl = sys.argv[1]\nprint(",
        after: ".decode())",
    },
    Language {
        name: "Node.js",
        command: &["node", "--input-type=module", "-e"],
        before: "const url = process.argv[1];\nconsole.log(JSON.stringify(",
        after: "))",
    },
    Language { name: "PHP", command: &["php", "-r"], before: "$url = $argv[1];\necho ", after: ";" },
];

impl Language {
    /// The program's output; `None` if the language is not installed.
    async fn output(&self, line: &str, url: &str) -> Option<String> {
        let program = format!("{}{line}{}", self.before, self.after);
        let mut command = Command::new(self.command[0]);
        command.args(&self.command[1..]).args([program.as_str(), url]).env("no_proxy", "127.0.0.1");
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
        Some(String::from_utf8_lossy(&output.ok()?.stdout).into_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_publish_of_the_readme_is_confirmed_in_each_language() {
    let vhost = shared().await.vhost("first-publish").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("demo", true, arguments([])).await;
    let sidecar = Sidecar::up(&vhost.uri()).await;
    let url = format!("http://{}/v1/queues/demo/messages", sidecar.http());
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).expect("the repository has a README.md");

    let mut confirmed = 0;
    for language in LANGUAGES {
        let row = readme.lines().find(|line| line.starts_with(&format!("| {} |", language.name)));
        let line = row.and_then(|row| row.split('`').nth(1)).expect(language.name);
        let Some(output) = language.output(line, &url).await else {
            assert_ne!(language.name, "Python", "the tests need python3");
            println!("{} is not installed: its line was not tried", language.name);
            continue;
        };
        assert!(output.contains(r#""outcome":"confirmed""#), "{}: {output}", language.name);
        confirmed += 1;
    }

    let received = client.drain("demo").await;
    assert_eq!(received.len(), confirmed);
    assert!(received.iter().all(|message| message.body == b"hello"));
}
