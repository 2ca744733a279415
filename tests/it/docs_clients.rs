//! Every program in `docs/clients.md` runs as printed and prints what stands below it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integration_tests::agent::interpreter;
use integration_tests::command::run;
use integration_tests::{Options, Server, clients_dir, workspace};
use tempfile::TempDir;

use crate::Outcome;

const PATIENCE: Duration = Duration::from_secs(60);

/// A fenced block of the page.
#[derive(Debug)]
struct Block {
    section: String,
    language: String,
    text: String,
}

fn blocks(page: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut section = String::new();
    let mut open: Option<Block> = None;
    for line in page.lines() {
        match (open.take(), line.strip_prefix("```")) {
            (None, None) => {
                if let Some(title) = line.strip_prefix("## ") {
                    section = title.to_owned();
                }
            }
            (None, Some(language)) => {
                let (section, language) = (section.clone(), language.to_owned());
                open = Some(Block {
                    section,
                    language,
                    text: String::new(),
                });
            }
            (Some(mut block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (Some(block), Some("")) => blocks.push(block),
            (Some(block), Some(_)) => bail!("a block inside a block of {}", block.section),
        }
    }
    ensure!(open.is_none(), "a block without end");
    Ok(blocks)
}

/// The programs of the page, each with the output that is printed below it.
fn programs() -> Result<Vec<(Block, String)>> {
    let page = std::fs::read_to_string(workspace().join("docs/clients.md"))?;
    let mut programs = Vec::new();
    let mut blocks = blocks(&page)?.into_iter();
    while let Some(block) = blocks.next() {
        ensure!(
            block.language != "text",
            "an output without a program in {}",
            block.section
        );
        let output = blocks
            .next()
            .with_context(|| format!("no output in {}", block.section))?;
        ensure!(
            output.language == "text",
            "no output below a program in {}",
            block.section
        );
        programs.push((block, output.text));
    }
    Ok(programs)
}

/// Runs every program of a section against a router of its own.
fn section(title: &str) -> Outcome {
    let mut found = false;
    for (block, expected) in programs()? {
        if block.section == title {
            found = true;
            let server = Server::start(Options::default())?;
            let output = execute(&block, &server)?;
            ensure!(
                output == expected,
                "{title} prints\n{output}instead of\n{expected}"
            );
        }
    }
    ensure!(found, "no section {title}");
    Ok(())
}

fn execute(block: &Block, server: &Server) -> Result<String> {
    let mqtt = server.mqtt_addr()?;
    let text = block
        .text
        .replace("127.0.0.1:9000", &server.listen.to_string())
        .replace("127.0.0.1:1883", &mqtt.to_string())
        .replace("-p 1883", &format!("-p {}", mqtt.port()))
        .replace(
            "\"127.0.0.1\", 1883",
            &format!("\"127.0.0.1\", {}", mqtt.port()),
        );
    ensure!(
        !text.contains("9000") && !text.contains("1883"),
        "a port was not replaced:\n{text}"
    );
    // Below the installed packages, where Node.js looks for them as in a project.
    let dir = TempDir::with_prefix_in("doc-", clients_dir()?.join("js"))?;
    let mut command = match block.language.as_str() {
        "js" => {
            let path = dir.path().join("program.js");
            std::fs::write(&path, text)?;
            let mut command = Command::new("node");
            command.arg(path);
            command
        }
        "python" => {
            let path = dir.path().join("program.py");
            std::fs::write(&path, text)?;
            let mut command = interpreter(true)?;
            command.arg(path);
            command
        }
        "sh" => {
            let mut command = Command::new("sh");
            command.args(["-euc", &text]);
            command
        }
        other => bail!("a block in {other}, which nobody runs"),
    };
    Ok(run(&mut command, PATIENCE)?.success()?.stdout)
}

#[test]
fn autobahn_js() -> Outcome {
    section("autobahn-js")
}

#[test]
fn autobahn_python() -> Outcome {
    section("autobahn-python")
}

#[test]
fn wampy() -> Outcome {
    section("wampy")
}

#[test]
fn mqtt_js() -> Outcome {
    section("mqtt.js")
}

#[test]
fn paho_python() -> Outcome {
    section("paho-mqtt (Python)")
}

#[test]
fn mosquitto_tools() -> Outcome {
    section("mosquitto_pub and mosquitto_sub")
}

#[test]
fn both_protocols() -> Outcome {
    section("Both protocols at once")
}

/// No section is left out above.
#[test]
fn every_section_has_a_test() -> Outcome {
    let own = include_str!("docs_clients.rs");
    for (block, _) in programs()? {
        let call = format!("section(\"{}\")", block.section);
        ensure!(
            own.contains(&call),
            "nobody runs the section {}",
            block.section
        );
    }
    Ok(())
}
