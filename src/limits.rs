//! Every number that bounds the cost of a client.

use std::{fmt, time::Duration};

use crate::wire::Json;

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr;)*) => {
        /// The bounds of a client: sizes in bytes, counts, rates and times, each with a default.
        ///
        /// ```
        /// use axum_cloud_variables::Limits;
        ///
        /// let limits = Limits::default().members_per_room(32).messages_per_second(30);
        /// assert_eq!(limits.members_per_room, 32);
        /// ```
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
        #[non_exhaustive]
        pub struct Limits {
            $($(#[$doc])* pub $name: $type,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            $(
                #[doc = concat!("Sets [`", stringify!($name), "`](Self#structfield.", stringify!($name), ").")]
                #[must_use]
                pub fn $name(mut self, $name: $type) -> Self {
                    self.$name = $name;
                    self
                }
            )*
        }
    };
}

limits! {
    /// Rooms in the registry, emptied ones included. Default 16,384. An empty room costs about
    /// 3 KB. Over it, the room that has been empty for longest is evicted. If none is empty, a new room is refused
    /// with 4003 (1013 for Scratch clients, here and below).
    rooms: usize = 16_384;
    /// Sessions of the registry, before and after their handshake. Default 16,384. Each costs
    /// about 10 KB, and keeps buffers as long as the longest message it has sent and the longest frame it has
    /// received. The worst case is 16,384 × 160 KiB, and nothing shows it in advance, so lower both if memory is
    /// short. Over it: 4003. Over twice as many: 503, and no upgrade.
    sessions: usize = 16_384;
    /// Members of one room. Default 128. Over it: 4003.
    members_per_room: usize = 128;
    /// Variables of one room. Default 128; [`OpenRoom::max_variables`](crate::OpenRoom::max_variables) sets
    /// another for one room. Over it: a handshake gets 4000, and a set that would create one more is ignored.
    variables_per_room: usize = 128;
    /// Bytes of a variable's name, as UTF-8; 1 or more. Default 1,024. Over it: the same as for
    /// [`variables_per_room`](Self#structfield.variables_per_room).
    name_bytes: usize = 1_024;
    /// Bytes of a value, as UTF-8. Default 100,000. Over it: a handshake gets 4000. A set is ignored, and its
    /// sender receives the room's value.
    value_bytes: usize = 100_000;
    /// Characters of a room's id; 1 or more. Default 1,000, of up to four bytes each. Over it: 4000, or for
    /// [`Dialect::Scratch`](crate::Dialect::Scratch) 4004, because its clients reconnect after 4000.
    room_id_chars: usize = 1_000;
    /// Bytes of one message from a client, whole or in fragments. Default 160 KiB, so that a value
    /// at its limit fits. A compressed message counts as it is when inflated, and is inflated no further than
    /// this. Over it: 1009. If the names of a room are fixed, its names and values must fit one
    /// message, because a handshake carries them; a set that would make them longer is ignored. An eighth of that
    /// is reserved for small values: 20 KiB, so that each of ten variables may have 2 KiB.
    message_bytes: usize = 160 * 1024;
    /// Batches that wait in a room for its slowest reader. Default 64, allocated with the room
    /// (32 bytes each). A member that lags further behind is resynchronized: it receives the current values.
    backlog_batches: usize = 64;
    /// Bytes of those batches and their encodings. Default 3 MiB. Over it, the oldest are dropped first.
    backlog_bytes: usize = 3 * 1024 * 1024;
    /// Bytes of one room's names and values, as JSON spells them, and 200 for each variable. Default
    /// 1 MiB; [`OpenRoom::max_bytes`](crate::OpenRoom::max_bytes) sets another for one room. Over it: the same as
    /// for [`variables_per_room`](Self#structfield.variables_per_room). A thirty-second of it is reserved for
    /// variables whose name and value have up to 56 bytes together, so that long values of one member do not keep
    /// the others from setting theirs.
    room_bytes: usize = 1024 * 1024;
    /// Bytes of all rooms together: values, names, batches that wait, and snapshots that are being sent.
    /// Default 256 MiB. The last quarter is reserved for rooms of up to 64 KiB, so that no large room keeps small
    /// ones from working. A set that makes its room larger and does not fit evicts empty rooms, the largest and
    /// least used first. If there are none, it is ignored, and its sender receives the room's value. A set that
    /// does not make its room larger is always taken. A join that does not fit gets 4003.
    state_bytes: usize = 256 * 1024 * 1024;
    /// Sets a second that one client may write. Default 1,000: a TurboWarp player sends every
    /// variable that has changed once a frame, so ten variables at 60 frames a second are 600. 0 is
    /// no limit.
    ///
    /// A client over this rate is conflated, not queued: the server reads on, keeps the latest value of each
    /// variable, and takes these values together, in the order in which they were written, as soon as the rate
    /// allows it. So the other members are behind by up to `variables / rate` (0.13 s with the defaults), and the
    /// last value of each variable arrives in any case, also if the client leaves at once. Values that wait count
    /// towards [`state_bytes`](Self#structfield.state_bytes).
    messages_per_second: u32 = 1_000;
    /// Sets that one client may write at once after a pause; each is kept. Default 2,000.
    message_burst: u32 = 2_000;
    /// Bytes a second that are read from one client, of any kind, also before its handshake and after its close;
    /// 64 more for each frame; and the corrections that it receives. Default 1 MiB; 0 is no limit. Over it, reading
    /// pauses: TCP slows the sender down, and nothing is lost.
    bytes_per_second: u32 = 1024 * 1024;
    /// Bytes that one client may send at once after a pause. Default 4 MiB; a connection begins with
    /// 512 KiB of it.
    byte_burst: u32 = 4 * 1024 * 1024;
    /// Bytes a second that the members of one room may write together, in names and values, because each member
    /// receives all of it. Default 2 MiB, and an eighth of it at once after a pause; 0 is no limit. Over
    /// it, the members that write most are conflated, as over
    /// [`messages_per_second`](Self#structfield.messages_per_second). Half of it is shared equally by all
    /// members, so one that writes less than its share, 8 KiB a second in a room of 128, does not wait.
    /// With a relay it counts for each node.
    room_bytes_per_second: u32 = 2 * 1024 * 1024;
    /// Time from the upgrade to the handshake. Default 10 s. Then: 4000.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    handshake_timeout: Duration = Duration::from_secs(10);
    /// Time that [`Policy::admit`](crate::policy::Policy::admit) has for its answer. Default 5 s. Then: 1011.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    admit_timeout: Duration = Duration::from_secs(5);
    /// Time between two keepalive pings. Default 25 s; a proxy's idle timeout must be longer.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    ping_interval: Duration = Duration::from_secs(25);
    /// Time after which a client is dropped if it sends no frame, and no blocked write to it succeeds. Default
    /// 60 s.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    idle_timeout: Duration = Duration::from_secs(60);
    /// Time in which a member whose name a newcomer claims must answer a probe. Default 2 s. Then the newcomer gets
    /// the name. While the member sends frames, but no answer, the newcomer waits for two and a half times as long,
    /// and is then asked to try again. Other newcomers wait for their turn for as long.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    takeover_probe: Duration = Duration::from_secs(2);
    /// Time that a client has to answer a close, and five times that if its socket is blocked. Default 2 s.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    close_timeout: Duration = Duration::from_secs(2);
    /// Time for which an emptied room keeps its variables. Default 1 h.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    empty_room_ttl: Duration = Duration::from_secs(3_600);
}

impl Limits {
    /// Whether a room may have this id.
    pub(crate) fn allow_room_id(&self, id: &str) -> bool {
        (1..=self.room_id_chars).contains(&id.chars().count())
    }

    /// Returns up to how many bytes a variable of this many bytes may fill its room. The rest is for small
    /// ones, an equal share for each variable, so that no member's long values keep the others from setting
    /// theirs. Nothing is reserved of a bound that a single value may fill.
    pub(crate) fn share_of(
        &self,
        Bound { bytes: bound, kept }: Bound,
        bytes: usize,
        variables: usize,
    ) -> usize {
        let longest = OVERHEAD + self.name_bytes + self.value_bytes;
        let kept = kept.min(bound.saturating_sub(longest));
        if bytes <= kept / variables.max(1) { bound } else { bound - kept }
    }

    /// Whether a room may have these variables.
    pub(crate) fn check_variables(
        &self,
        variables: &[(Json<'_>, Json<'_>)],
    ) -> Result<(), OverLimit> {
        if variables.len() > self.variables_per_room {
            return Err(OverLimit::Variables(self.variables_per_room));
        }
        for (name, value) in variables {
            if !(1..=self.name_bytes).contains(&name.byte_len()) {
                return Err(OverLimit::Name(self.name_bytes));
            }
            if value.byte_len() > self.value_bytes {
                return Err(OverLimit::Value(self.value_bytes));
            }
        }
        if variables.iter().map(entry_cost).sum::<usize>() > self.room_bytes {
            return Err(OverLimit::Room(self.room_bytes));
        }
        Ok(())
    }
}

/// A bound of a room's bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    bytes: usize,
    kept: usize,
}

impl Bound {
    /// Returns the bound of names and values. Ten values of 100,000 digits still fit beside the reserve.
    pub(crate) fn of_room(bytes: usize) -> Self {
        Self { bytes, kept: bytes / 32 }
    }

    /// Of a handshake that carries all names and values.
    pub(crate) fn of_handshake(bytes: usize) -> Self {
        Self { bytes, kept: bytes / 8 }
    }
}

/// The cost of a variable beside its name and value: the map's entry and two allocations.
const OVERHEAD: usize = 200;

/// The cost of a variable in its room and in the budget.
pub(crate) fn cost(name: &str, value: &str) -> usize {
    OVERHEAD + name.len() + value.len()
}

/// As [`cost`], of a variable that is brought.
pub(crate) fn entry_cost((name, value): &(Json<'_>, Json<'_>)) -> usize {
    cost(name.as_json(), value.as_json())
}

/// The limit that variables exceed, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverLimit {
    Variables(usize),
    Name(usize),
    Value(usize),
    Room(usize),
}

impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variables(most) => write!(f, "too many variables: a room has at most {most}"),
            Self::Name(most) => write!(f, "a variable's name must have 1 to {most} bytes"),
            Self::Value(most) => write!(f, "a value must have at most {most} bytes"),
            Self::Room(most) => write!(f, "the variables of a room must have at most {most} bytes"),
        }
    }
}
