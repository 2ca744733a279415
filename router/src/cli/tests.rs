//! The command line from arguments to texts and exit codes.

use super::*;
use crate::config::{DataStore, FakeSources, LogLevel};

fn run(args: &[&str], sources: &FakeSources) -> Result<Invocation, CliExit> {
    parse(std::iter::once(&"reynard").chain(args), sources)
}

fn config(args: &[&str]) -> Config {
    match run(args, &FakeSources::default()) {
        Ok(Invocation::Serve(loaded)) => loaded.config,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn refused(args: &[&str]) -> String {
    let exit = run(args, &FakeSources::default()).expect_err("refused");
    assert_eq!((exit.code, exit.stdout.as_str()), (2, ""), "{args:?}");
    exit.stderr
}

#[test]
fn without_arguments_the_defaults_are_served() {
    assert_eq!(config(&[]), Config::default());
    assert_eq!(config(&["serve"]), Config::default());
}

#[test]
fn every_flag_arrives_with_and_without_the_command() {
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "[::1]:9000",
        "--mqtt",
        "0.0.0.0:1884",
        "--data-dir",
        "/var/lib/reynard",
        "--realm",
        "shop",
        "--insecure",
        "--log-format",
        "json",
        "--log-level",
        "debug",
    ];
    let got = config(&flags);
    let with_command: Vec<&str> = std::iter::once("serve").chain(flags).collect();
    assert_eq!(got, config(&with_command));
    assert_eq!(
        addresses(&got, ListenerKind::Universal),
        "127.0.0.1:0,[::1]:9000"
    );
    assert_eq!(addresses(&got, ListenerKind::Mqtt), "0.0.0.0:1884");
    assert_eq!(got.data, DataStore::Directory("/var/lib/reynard".into()));
    assert_eq!((got.default_realm.as_str(), got.insecure), ("shop", true));
    assert_eq!(got.log.format, config::LogFormat::Json);
    assert_eq!(got.log.level, LogLevel::Debug);
    assert_eq!(config(&["--memory"]).data, DataStore::Memory);
    assert_eq!(
        addresses(&config(&["--mqtt", "off"]), ListenerKind::Mqtt),
        "off"
    );
}

#[test]
fn bad_arguments_are_refused_by_name() {
    for (args, part) in [
        (&["--liste", "x"][..], "--listen"),
        (&["serve", "--memory", "--data-dir", "x"], "--memory"),
        (&["frobnicate"], "frobnicate"),
        (&["--realm"], "--realm"),
        (
            &["--listen", "9000"],
            "flag --listen: `9000` is not an address",
        ),
        (&["--mqtt", "no"], "flag --mqtt: `no` is not an address"),
        (
            &["--realm", "a b"],
            "flag --realm: `a b` is not a realm name",
        ),
        (&["--data-dir", ""], "--data-dir"),
        (&["--log-level", "inf"], "did you mean `info`?"),
        (
            &["--log-format", "xml"],
            "flag --log-format: `xml` is not known here",
        ),
        (
            &["--listen", "0.0.0.0:9000"],
            "flag --listen: anybody who reaches 0.0.0.0:9000",
        ),
        (
            &["--mqtt", "127.0.0.1:9000"],
            "flag --mqtt: 127.0.0.1:9000 is used by two listeners",
        ),
        (
            &["--listen", "127.0.0.1:1883"],
            "flag --listen: 127.0.0.1:1883 is used by two listeners",
        ),
        (
            &["-c", "nowhere.toml"],
            "nowhere.toml: the configuration cannot be read",
        ),
        (&["--listen", "x", "--realm", "a b"], "2 problems"),
    ] {
        let said = refused(args);
        assert!(said.contains(part), "{args:?}: {said}");
    }
}

/// Every command by its words, with the most lines that its help may have.
const HELPS: &[(&[&str], usize)] = &[
    (&["--help"], 24),
    (&["-h"], 24),
    (&["serve", "--help"], 40),
    (&["check", "--help"], 40),
    (&["kv", "--help"], 48),
    (&["kv", "get", "--help"], 48),
    (&["kv", "put", "--help"], 48),
    (&["kv", "cas", "--help"], 48),
    (&["kv", "del", "--help"], 48),
    (&["kv", "ls", "--help"], 48),
    (&["kv", "watch", "--help"], 48),
    (&["kv", "export", "--help"], 48),
    (&["kv", "import", "--help"], 48),
    (&["lock", "--help"], 48),
    (&["lock", "run", "--help"], 48),
    (&["lock", "ls", "--help"], 48),
    (&["lock", "inspect", "--help"], 48),
    (&["lock", "break", "--help"], 48),
    (&["bench", "--help"], 48),
    (&["storage", "--help"], 48),
    (&["storage", "check", "--help"], 48),
    (&["storage", "compact", "--help"], 48),
    (&["storage", "migrate", "--help"], 48),
];

#[test]
fn help_fits_a_screen_and_every_command_has_examples() {
    for (args, most) in HELPS {
        let exit = run(args, &FakeSources::default()).expect_err("help");
        assert_eq!((exit.code, exit.stderr.as_str()), (0, ""), "{args:?}");
        let lines = exit.stdout.lines().count();
        assert!(lines <= *most, "{lines} lines\n{}", exit.stdout);
        assert!(
            exit.stdout.lines().all(|line| line.chars().count() <= 100),
            "{}",
            exit.stdout
        );
        assert!(
            exit.stdout.contains("Examples:\n  reynard "),
            "{}",
            exit.stdout
        );
    }
}

#[test]
fn the_list_of_helps_is_complete() {
    use clap::CommandFactory as _;
    let mut missing = Vec::new();
    let cli = Cli::command();
    for command in cli.get_subcommands() {
        let name = command.get_name();
        let below = command.get_subcommands().map(clap::Command::get_name);
        let lines = below.map(|sub| vec![name, sub, "--help"]);
        for words in lines.chain([vec![name, "--help"]]) {
            if !HELPS.iter().any(|(args, _)| *args == words) {
                missing.push(words.join(" "));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
    Cli::command().debug_assert();
}

/// The page that the helps send their readers to.
const PAGE: &str = include_str!("../../../docs/cli.md");

#[test]
fn the_page_of_the_command_line_names_every_command_and_option() {
    use clap::CommandFactory as _;
    let mut missing = Vec::new();
    for command in Cli::command().get_subcommands() {
        for sub in command.get_subcommands() {
            let name = format!("`{} {}", command.get_name(), sub.get_name());
            let options = sub.get_arguments().chain(command.get_arguments());
            let options = options.filter_map(|arg| arg.get_long());
            let options = options.filter(|long| *long != "help");
            let options = options.map(|long| format!("`--{long}"));
            missing.extend(options.chain([name]).filter(|text| !PAGE.contains(text)));
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_commands_for_a_running_router_do_not_look_at_the_configuration() {
    let sources = FakeSources::default().file("reynard.toml", "broken = ");
    for args in [
        &["kv", "get", "a"][..],
        &["kv", "--url", "unix:/run/r.sock", "get", "a", "--json"],
        &[
            "kv", "put", "a", "-5", "--ttl", "5m", "--when", "null", "--wait", "1s",
        ],
        &["kv", "import", "--replace", "-"],
        &["lock", "run", "a", "--wait", "0", "--", "true", "--json"],
        &[
            "lock", "run", "a", "--mode", "permit", "--limit", "2", "--", "true",
        ],
    ] {
        let got = run(args, &sources);
        assert!(
            matches!(got, Ok(Invocation::Client(_))),
            "{args:?}: {got:?}"
        );
    }
}

#[test]
fn bad_arguments_of_the_commands_for_a_running_router_are_refused() {
    for args in [
        &["kv"][..],
        &["kv", "get"],
        &["kv", "get", "a", "--url", "http://h/"],
        &["kv", "put", "a"],
        &["kv", "put", "a", "1", "--when", "open"],
        &["kv", "put", "a", "1", "--wait", "1s"],
        &["kv", "put", "a", "1", "--ttl", "soon"],
        &["kv", "cas", "a", "x", "1"],
        &["kv", "ls", "--limit", "0"],
        &["kv", "import", "--only-new", "--replace"],
        &["kv", "import", "--in-flight", "0"],
        &["lock", "run", "a"],
        &["lock", "run", "a", "true"],
        &["lock", "run", "a", "--ttl", "500ms", "--", "true"],
        &["lock", "run", "a", "--mode", "permit", "--", "true"],
        &["lock", "run", "a", "--mode", "mutual", "--", "true"],
        &["lock", "inspect"],
        &["lock", "break"],
    ] {
        refused(args);
    }
}

#[test]
fn the_help_of_serve_lists_every_flag_of_the_configuration() {
    let exit = run(&["serve", "--help"], &FakeSources::default()).expect_err("help");
    let flags = config::keys::KEYS.iter().filter_map(|key| key.flag);
    for flag in flags.chain(["--config", "--mqtt"]) {
        assert!(exit.stdout.contains(flag), "{flag}\n{}", exit.stdout);
    }
}

#[test]
fn version_goes_to_stdout() {
    let exit = run(&["--version"], &FakeSources::default()).expect_err("version");
    let text = format!("reynard {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        exit,
        CliExit {
            stdout: text,
            ..CliExit::default()
        }
    );
}

fn check(args: &[&str], sources: &FakeSources) -> CliExit {
    match run(args, sources) {
        Ok(Invocation::Check(flags)) => run_check(&flags, sources),
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn check_sums_up_what_would_be_served() {
    let text = "auto_realms = false\ndefault_realm = \"shop\"\n\
                [[listener]]\nbind = \"0.0.0.0:9000\"\n\
                [[realm]]\nname = \"shop\"\n\
                [[realm.user]]\nauthid = \"joe\"\nrole = \"r\"\nsecret = \"s\"\n";
    let exit = check(
        &["check", "-c", "a.toml"],
        &FakeSources::default().file("a.toml", text),
    );
    let stdout = "a.toml: ok\n  listen  0.0.0.0:9000\n  mqtt    off\n  data    ./reynard-data\n  \
                  realms  shop (1 user, no anonymous); default shop\n";
    assert_eq!(
        exit,
        CliExit {
            stdout: stdout.to_owned(),
            ..CliExit::default()
        }
    );
}

#[test]
fn check_without_a_file_says_so() {
    let exit = check(
        &["check"],
        &FakeSources::default().variable("REYNARD_MEMORY", "1"),
    );
    let stdout = "no reynard.toml, defaults and environment: ok\n  listen  127.0.0.1:9000\n  \
                  mqtt    127.0.0.1:1883\n  data    memory\n  realms  any, open; default realm1\n";
    assert_eq!(
        exit,
        CliExit {
            stdout: stdout.to_owned(),
            ..CliExit::default()
        }
    );
}

#[test]
fn check_reports_problems_on_stderr_with_code_2() {
    let sources = FakeSources::default().file("reynard.toml", "memroy = true\n");
    let exit = check(&["check"], &sources);
    let stderr = "reynard.toml:1:1: unknown key `memroy` at the top level\n  |\n\
                  1 | memroy = true\n  | ^^^^^^\n  = hint: did you mean `memory`?\n\n\
                  1 problem; docs/config.md explains every key\n";
    assert_eq!(
        exit,
        CliExit {
            code: 2,
            stderr: stderr.to_owned(),
            ..CliExit::default()
        }
    );
}

#[test]
fn check_warns_on_stderr_but_passes() {
    let text = "insecure = true\n[[listener]]\nbind = \"0.0.0.0:9000\"\n";
    let exit = check(
        &["check"],
        &FakeSources::default().file("reynard.toml", text),
    );
    assert_eq!(exit.code, 0);
    let start = "warning: reynard.toml:3:8: anybody who reaches 0.0.0.0:9000";
    assert!(exit.stderr.starts_with(start), "{}", exit.stderr);
}
