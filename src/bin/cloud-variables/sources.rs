//! The sources of the settings: flags, then the environment, then a file.

use std::{collections::BTreeMap, env, ffi::OsString, fs, path::Path};

use clap::{Arg, ArgAction, CommandFactory, Parser, error::ErrorKind};
use toml::Value;
use tracing::warn;

use super::settings::Settings;

/// Reads the settings of this process.
pub(crate) fn read() -> Result<Settings, clap::Error> {
    parse(env::args_os().collect(), |name| match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{name}: it is not valid text")),
    })
}

fn parse(
    flags: Vec<OsString>,
    variable: impl Fn(&str) -> Result<Option<String>, String>,
) -> Result<Settings, clap::Error> {
    let command = Settings::command();
    let invalid = |text: String| Settings::command().error(ErrorKind::InvalidValue, text);
    let from_variable = |long: &str| variable(&variable_of(long)).map_err(invalid);
    let config = match value_of(&flags, "config") {
        Some(file) => Some(file),
        None => from_variable("config")?,
    };
    let mut file = config.as_ref().map(|file| read_file(Path::new(file))).transpose();
    let mut file = file.as_mut().map_err(|error| invalid(std::mem::take(error)))?.take();
    let mut all = vec![flags.first().cloned().unwrap_or_default()];
    for option in command.get_arguments() {
        let Some(long) = option.get_long().filter(|long| *long != "config") else { continue };
        let in_file = file.as_mut().and_then(|file| file.remove(long));
        if is_given(&flags, long) {
            continue;
        }
        let values = match (from_variable(long)?, in_file) {
            (Some(text), _) if is_repeatable(option) => listed(&text),
            (Some(text), _) => vec![text],
            (None, Some(value)) => texts(long, value).map_err(invalid)?,
            (None, None) => continue,
        };
        all.extend(as_flags(option, long, values).map_err(invalid)?);
    }
    if let Some(unknown) = file.as_ref().and_then(|file| file.keys().next()) {
        return Err(invalid(format!("--config: there is no option '{unknown}'")));
    }
    // Hosting platforms set only the port.
    let has_listen = is_given(&all, "listen") || is_given(&flags, "listen");
    if let Some(port) = variable("PORT").map_err(invalid)?.filter(|_| !has_listen) {
        all.push(format!("--listen=0.0.0.0:{}", port.trim()).into());
    }
    all.extend(flags.into_iter().skip(1));
    Settings::try_parse_from(all)
}

/// Returns the name of an option's environment variable.
fn variable_of(long: &str) -> String {
    format!("CLOUD_{}", long.replace('-', "_").to_uppercase())
}

/// Warns of variables that look like options. They are no errors, because a platform may have set them.
pub(crate) fn warn_of_unknown_variables() {
    let command = Settings::command();
    let known: Vec<_> =
        command.get_arguments().filter_map(Arg::get_long).map(variable_of).collect();
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let unknown = names.filter(|name| name.starts_with("CLOUD_") && !known.contains(name));
    for variable in unknown {
        warn!(variable, "no option has this name: --help lists them");
    }
}

fn is_given(flags: &[OsString], long: &str) -> bool {
    let flag = format!("--{long}");
    let mut flags = flags.iter().filter_map(|given| given.to_str());
    flags.any(|given| {
        given.strip_prefix(&*flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}

/// Returns the value of a flag, before all flags are parsed.
fn value_of(flags: &[OsString], long: &str) -> Option<String> {
    let flag = format!("--{long}");
    let mut flags = flags.iter().filter_map(|given| given.to_str());
    while let Some(given) = flags.next() {
        match given.strip_prefix(&*flag) {
            Some("") => return flags.next().map(Into::into),
            Some(rest) if rest.starts_with('=') => return Some(rest[1..].into()),
            _ => {}
        }
    }
    None
}

fn read_file(path: &Path) -> Result<BTreeMap<String, Value>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("--config {}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
    // The error leaves out the line itself, which may contain a password.
    toml::from_str(&text).map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| before.matches('\n').count() + 1);
        failed(&format!("line {line}: {}", error.message()))
    })
}

/// Returns the values of an option in the file.
fn texts(long: &str, value: Value) -> Result<Vec<String>, String> {
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(is_set) => Ok(is_set.to_string()),
        _ => {
            Err(format!("--config: '{long}' is a text, a number, true, false, or a list of these"))
        }
    };
    match value {
        Value::Array(values) => values.into_iter().map(text).collect(),
        value => Ok(vec![text(value)?]),
    }
}

/// Splits the values of an environment variable. An address of Sentinels or of a cluster has commas of its own,
/// between hosts.
fn listed(text: &str) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    for value in text.split(',').map(str::trim).filter(|value| !value.is_empty()) {
        let has_hosts = |last: &&mut String| {
            last.split_once("://")
                .is_some_and(|(scheme, _)| scheme.starts_with("redis") && scheme.contains('+'))
        };
        match values.last_mut().filter(has_hosts) {
            Some(last) if !value.contains("://") => last.extend([",", value]),
            _ => values.push(value.to_owned()),
        }
    }
    values
}

fn is_repeatable(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Append)
}

/// Returns flags with these values.
fn as_flags(option: &Arg, long: &str, values: Vec<String>) -> Result<Vec<OsString>, String> {
    if matches!(option.get_action(), ArgAction::SetTrue) {
        return match &values[..] {
            [value] if value == "true" || value == "1" => Ok(vec![format!("--{long}").into()]),
            [value] if value == "false" || value == "0" => Ok(Vec::new()),
            _ => Err(format!("'{long}' is true or false")),
        };
    }
    if values.is_empty() {
        return Err(format!("'{long}' has no value: leave it out"));
    }
    if values.len() > 1 && !is_repeatable(option) {
        return Err(format!("'{long}' has one value"));
    }
    Ok(values.into_iter().map(|value| format!("--{long}={value}").into()).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn given(flags: &[&str], variables: &[(&str, &str)]) -> Result<Settings, String> {
        let flags = ["cloud-variables"].iter().chain(flags).map(OsString::from).collect();
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            Ok(found.map(|(_, value)| (*value).to_owned()).filter(|value| !value.is_empty()))
        };
        parse(flags, variable).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_precede_the_environment_which_precedes_the_file() {
        let file = env::temp_dir().join(format!("cloud-variables-{}.toml", std::process::id()));
        let text = "rooms = 1\nmembers-per-room = 2\nvalue-bytes = 3\nmetrics = true\nany-value = false\n\
                    allow-origin = [\"https://a.example\", \"https://b.example\"]\ntick-ms = 20.5\n";
        fs::write(&file, text).expect("a file");
        let config = file.to_str().expect("a path");
        let flags = ["--config", config, "--rooms", "7"];
        let variables =
            [("CLOUD_ROOMS", "8"), ("CLOUD_MEMBERS_PER_ROOM", "9"), ("CLOUD_STORE", "")];
        let settings = given(&flags, &variables).map_err(|error| panic!("{error}"));
        let Ok(settings) = settings;
        assert_eq!((settings.rooms, settings.members_per_room, settings.value_bytes), (7, 9, 3));
        assert!(settings.metrics && !settings.any_value && settings.store.is_none());
        assert_eq!(settings.allow_origin, ["https://a.example", "https://b.example"]);
        assert_eq!(settings.tick_ms, Duration::from_micros(20_500));
        let variables =
            [("CLOUD_CONFIG", config), ("CLOUD_ALLOW_ORIGIN", "https://c.example, null")];
        let Ok(settings) = given(&[], &variables).map_err(|error| panic!("{error}"));
        assert_eq!(settings.allow_origin, ["https://c.example", "null"]);
        for (text, reason) in [
            ("roms = 1", "there is no option 'roms'"),
            ("rooms = [1, 2]", "'rooms' has one value"),
            ("metrics = 7", "'metrics' is true or false"),
            ("rooms = 1\nmetrics = ", "line 2"),
            ("allow-origin = []", "'allow-origin' has no value"),
            ("grace = inf", "a time from 0 to a day"),
            ("drain-delay = -1", "a time from 0 to a day"),
            ("path = \"/:x\"", "a path begins with a slash"),
        ] {
            fs::write(&file, text).expect("a file");
            let error = given(&["--config", config], &[]).err().unwrap_or_default();
            assert!(error.contains(reason), "{text}: {error}");
        }
        fs::remove_file(&file).expect("the file");
        let error = given(&["--config", config], &[]).err().unwrap_or_default();
        assert!(error.contains(config), "{error}");
    }

    #[test]
    fn an_address_of_several_hosts_is_one_value() {
        let list = |text: &str| listed(text).join(" ");
        assert_eq!(list("a, b,,c"), "a b c");
        assert_eq!(
            list("redis://a,redis+sentinel://b,c:1,d/main,redis+cluster://e,f, redis://g"),
            "redis://a redis+sentinel://b,c:1,d/main redis+cluster://e,f redis://g"
        );
    }

    #[test]
    fn a_platforms_port_counts_unless_there_is_an_address() {
        let listen = |flags: &[&str], variables: &[(&str, &str)]| {
            given(flags, variables).map(|settings| settings.listen.join(" "))
        };
        let port = ("PORT", "8000");
        assert_eq!(listen(&[], &[]), Ok("127.0.0.1:9080".into()));
        assert_eq!(listen(&[], &[port]), Ok("0.0.0.0:8000".into()));
        assert_eq!(listen(&["--listen", "[::]:1"], &[port]), Ok("[::]:1".into()));
        assert_eq!(listen(&[], &[port, ("CLOUD_LISTEN", "a:1,b:2")]), Ok("a:1 b:2".into()));
        assert_eq!(listen(&[], &[("PORT", "")]), Ok("127.0.0.1:9080".into()));
    }

    #[test]
    fn an_error_shows_no_secret() {
        let file = env::temp_dir().join(format!("cloud-variables-{}-secret", std::process::id()));
        for text in
            ["inspector = \"ann:s3cret", "redis = \"redis://:s3cret@x/", "inspector = ann:s3cret"]
        {
            fs::write(&file, text).expect("a file");
            let error = given(&["--config", file.to_str().expect("a path")], &[]).err();
            let error = error.expect("no setting");
            assert!(error.contains("line 1") && !error.contains("s3cret"), "{error}");
        }
        fs::remove_file(&file).expect("the file");
        for variables in [[("CLOUD_INSPECTOR", "s3cret")], [("CLOUD_REDIS", "redis://:s3cret@x/,")]]
        {
            if let Err(error) = given(&[], &variables) {
                assert!(!error.contains("s3cret"), "{error}");
            }
        }
    }
}
