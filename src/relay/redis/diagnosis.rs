//! Distinguishes a broker that cannot work from one that is away, and explains the fault to its operator.

use redis::{ErrorKind, RedisError};

const WRONG_PASSWORD: &str = "the address has no password, or a wrong one";

/// Returns an explanation of an error: the fault and its remedy.
pub(super) fn explained(error: &RedisError) -> String {
    let text = error.to_string();
    let hint = match error.code() {
        Some("NOPERM") => {
            "its user may not do this: the ACL must allow ~cv:* &cv:* +@all, or those of the prefix"
        }
        Some("NOAUTH" | "WRONGPASS") => WRONG_PASSWORD,
        Some("READONLY") => "it is a replica: use the address of the primary",
        Some("MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN") => {
            "it is a node of a cluster: use redis+cluster:// in the address"
        }
        Some("OOM") => "its memory is full: raise maxmemory",
        Some("MISCONF") => "it cannot save its data, and takes no writes: look into its log",
        Some("LOADING") => "it is still loading its data",
        _ if text.contains("CertificateRequired") => {
            "it asks for a certificate: with_client_certificate, or --redis-cert"
        }
        _ if error.kind() == ErrorKind::AuthenticationFailed => WRONG_PASSWORD,
        _ if is_unknown_command(&text) => {
            "it knows no scripts: it may be a Sentinel: use redis+sentinel:// in the address"
        }
        _ => return text,
    };
    format!("{hint} ({text})")
}

fn is_unknown_command(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("unknown command") && text.contains("eval")
}

/// Returns the faults in a server's settings, from its answer to `INFO`. Rooms may work for a while despite
/// them.
pub(super) fn faults(info: &str, is_cluster: bool) -> Vec<&'static str> {
    let field = |name: &str| {
        let lines = info.lines().filter_map(|line| line.trim().split_once(':'));
        let mut values = lines.filter(|(known, _)| *known == name).map(|(_, value)| value);
        values.next().unwrap_or_default()
    };
    let is_before = |oldest: [u32; 2]| {
        let parts = field("redis_version").split('.').take(2);
        !field("redis_version").is_empty() && parts.map(|part| part.parse().unwrap_or(0)).lt(oldest)
    };
    let has_limit = !["", "0"].contains(&field("maxmemory"));
    let evicts = !["", "noeviction"].contains(&field("maxmemory_policy"));
    let faults = [
        (
            field("redis_mode") == "sentinel",
            "it is a Sentinel: use redis+sentinel:// in the address",
        ),
        (
            field("redis_mode") == "cluster" && !is_cluster,
            "it is a node of a cluster: use redis+cluster:// in the address",
        ),
        (is_cluster && is_before([7, 0]), "it is older than Redis 7, which a cluster needs"),
        (field("role") == "slave", "it is a replica: use the address of the primary"),
        (is_before([6, 2]), "it is older than Redis 6.2"),
        (
            has_limit && evicts,
            "it evicts keys if its memory is full, and so loses rooms: set maxmemory-policy noeviction",
        ),
        (
            field("aof_enabled") == "0",
            "it keeps the latest values in memory alone, and loses them in a crash: set appendonly yes",
        ),
    ];
    faults.into_iter().filter_map(|(is_so, text)| is_so.then_some(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: &str = "# Server\r\nredis_version:7.2.4\r\nredis_mode:standalone\r\n\r\n# Memory\r\nmaxmemory:0\r\n\
                        maxmemory_policy:noeviction\r\n# Persistence\r\naof_enabled:1\r\n# Replication\r\nrole:master\r\n";

    #[test]
    fn a_server_as_it_should_be_has_no_faults() {
        assert_eq!(faults(WELL, false), [""; 0]);
        assert_eq!(faults("", false), [""; 0], "nothing is known of it");
        let evicting = WELL.replace("noeviction", "allkeys-lru");
        assert_eq!(faults(&evicting, false), [""; 0], "its memory has no limit");
    }

    #[test]
    fn each_fault_has_its_words() {
        for (is, becomes, words) in [
            ("mode:standalone", "mode:sentinel", "Sentinel"),
            ("mode:standalone", "mode:cluster", "cluster"),
            ("role:master", "role:slave", "replica"),
            ("version:7.2.4", "version:6.0.16", "6.2"),
            ("version:7.2.4", "version:5", "6.2"),
            (
                "maxmemory:0\r\nmaxmemory_policy:noeviction",
                "maxmemory:9\r\nmaxmemory_policy:allkeys-lru",
                "noeviction",
            ),
            ("aof_enabled:1", "aof_enabled:0", "appendonly"),
        ] {
            let found = faults(&WELL.replace(is, becomes), false);
            assert!(found.len() == 1 && found[0].contains(words), "{becomes}: {found:?}");
        }
        let cluster = WELL.replace("mode:standalone", "mode:cluster");
        assert_eq!(faults(&cluster, true), [""; 0]);
        assert!(faults(&cluster.replace("7.2.4", "6.2.1"), true)[0].contains("Redis 7"));
    }
}
