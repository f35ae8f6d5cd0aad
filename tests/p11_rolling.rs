//! P11 in operation: servers behind HAProxy restart one after another, or one is killed, while people play with the
//! browser's module.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command},
    time::Duration,
};

use common::{Browser, Client, Driver, Folder, Process, Redis, page, within};

/// A page with the number of players in its address. It records for how long each of them was away.
const PAGE: &str = "<!doctype html><script type=module>
    import { connect } from './cloud/client.js';
    window.away = [];
    const count = Number(location.hash.slice(1));
    window.players = Array.from({ length: count }, (_, n) => {
        const player = connect('./cloud', { room: 'room', username: `p${n}`, variables: { x: '0' } });
        let since;
        player.on('close', (closed) => { since ??= performance.now(); player.last = closed; });
        player.on('open', () => {
            if (since) window.away.push(performance.now() - since);
            since = undefined;
        });
        return player;
    });
</script>";

/// Three servers at one broker, behind HAProxy with the settings of the guide.
struct Cluster {
    servers: Vec<Option<Process>>,
    addresses: Vec<String>,
    settings: Vec<String>,
    proxy: Child,
    entry: String,
    statistics: String,
    _redis: Redis,
    _folder: Folder,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        _ = self.proxy.kill();
        _ = self.proxy.wait();
    }
}

impl Cluster {
    async fn start(name: &str) -> Self {
        let (redis, folder) = (Redis::start(name), Folder::new(&format!("{name}_page")));
        fs::write(folder.file("index.html"), PAGE).unwrap();
        let settings = ["--path=/cloud", "--health=/health", "--drain-delay=3", "--grace=5"];
        let own = [format!("--redis={}", redis.url()), format!("--public={}", folder.file(""))];
        let settings: Vec<_> = settings.map(str::to_owned).into_iter().chain(own).collect();
        let servers = || Process::standalone(&texts(&settings));
        let servers: Vec<_> = std::iter::repeat_with(servers).take(3).collect();
        let addresses: Vec<_> = servers.iter().map(|server| server.addr.clone()).collect();
        let [entry, statistics] = [(); 2].map(|()| free_address());
        let file = folder.file("haproxy.cfg");
        fs::write(&file, configuration(&entry, &statistics, &addresses)).unwrap();
        let proxy = Command::new("haproxy").args(["-q", "-db", "-f", &file]).spawn();
        let proxy = proxy.expect("haproxy is missing: tests/run installs it");
        let servers = servers.into_iter().map(Some).collect();
        let (_redis, _folder) = (redis, folder);
        let cluster =
            Self { servers, addresses, settings, proxy, entry, statistics, _redis, _folder };
        for server in 0..3 {
            cluster.takes_players(server).await;
        }
        cluster
    }

    /// Waits until HAProxy sends newcomers to a server.
    async fn takes_players(&self, server: usize) {
        let line = format!("servers,s{server},");
        let is_up = async || {
            let Ok(Ok((200, text))) = tokio::spawn(fetch(self.statistics.clone())).await else {
                return false;
            };
            text.lines().any(|there| there.starts_with(&line) && there.contains(",UP,"))
        };
        let up = async {
            while !is_up().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within("HAProxy", up).await;
    }

    /// Opens a page on which people play, and waits until they are in the room.
    async fn play(&self, driver: &Driver, players: usize) -> Browser {
        let browser = driver.browser().await;
        browser.0.goto(&format!("http://{}/#{players}", self.entry)).await.unwrap();
        browser.until("players.every((player) => player.connected)").await;
        browser
    }
}

/// Requests the proxy's statistics. Fails while it does not listen.
async fn fetch(address: String) -> Result<(u16, String), std::io::Error> {
    drop(tokio::net::TcpStream::connect(&address).await?);
    Ok(page(&address, "/;csv").await)
}

fn texts(settings: &[String]) -> Vec<&str> {
    settings.iter().map(String::as_str).collect()
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Returns the configuration of the guide, with these addresses.
fn configuration(entry: &str, statistics: &str, servers: &[String]) -> String {
    let guide = include_str!("../examples/deploy/haproxy.cfg");
    let (shared, of_servers) = guide.split_once("  server one").unwrap();
    assert!(of_servers.lines().skip(1).all(|line| line.starts_with("  server ")));
    let servers = servers.iter().enumerate();
    let servers: String =
        servers.map(|(n, address)| format!("  server s{n} {address}\n")).collect();
    let statistics =
        format!("frontend statistics\n  bind {statistics}\n  stats enable\n  stats uri /\n");
    // As many connections as the limit of open files of a test machine allows.
    let shared = shared.replace("maxconn 20000", "maxconn 1000");
    shared.replace("bind :9080", &format!("bind {entry}")) + &servers + &statistics
}

/// Returns how long players were away, in milliseconds, in ascending order, once all are back.
async fn away(browser: &Browser) -> Vec<f64> {
    browser.until("players.every((player) => player.connected)").await;
    let away = browser.run("return away").await;
    let mut away: Vec<_> =
        away.as_array().unwrap().iter().map(|time| time.as_f64().unwrap()).collect();
    away.sort_by(f64::total_cmp);
    away
}

/// Sets a value as one player, and waits until all others have it.
async fn all_see(browser: &Browser, value: &str) {
    browser.run(&format!("players[0].vars.x = '{value}'")).await;
    browser.until(&format!("players.every((player) => player.vars.x === '{value}')")).await;
}

/// Each server also has a client that reads nothing and answers nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_takes_nobody_away_for_long() {
    let mut cluster = Cluster::start("rolling").await;
    let driver = Driver::start();
    let browser = cluster.play(&driver, 30).await;
    all_see(&browser, "before").await;
    for n in 0..3 {
        let server = cluster.servers[n].take().unwrap();
        let url = format!("ws://{}/cloud", server.addr);
        let mute = Client::join(&url, "room", &format!("mute{n}"), &[("x", "0")]).await;
        server.ask_to_end();
        assert!(tokio::task::spawn_blocking(|| server.ended_well()).await.unwrap());
        drop(mute);
        let listen = ["--listen", &cluster.addresses[n]];
        let settings = texts(&cluster.settings).into_iter().chain(listen);
        cluster.servers[n] = Some(Process::standalone(&Vec::from_iter(settings)));
        cluster.takes_players(n).await;
        all_see(&browser, &format!("after {n}")).await;
    }
    let away = away(&browser).await;
    println!("away {} times: {away:.0?} ms", away.len());
    assert!(away.len() >= 30, "nobody was away");
    let p99 = away[(away.len() - 1) * 99 / 100];
    assert!(p99 < 1_000.0, "{away:.0?}");
    browser.0.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn players_of_a_killed_server_are_soon_back() {
    let mut cluster = Cluster::start("killed_behind_a_proxy").await;
    let driver = Driver::start();
    let browser = cluster.play(&driver, 30).await;
    all_see(&browser, "before").await;
    cluster.servers[0].take().unwrap().crash();
    browser.until("away.length > 0").await;
    let away = away(&browser).await;
    println!("away {} times: {away:.0?} ms", away.len());
    assert!(away.len() >= 5 && away.iter().all(|time| *time < 3_000.0), "{away:.0?}");
    all_see(&browser, "after").await;
    browser.0.close().await.unwrap();
}
