//! The host's moderation of players: kicks, bans, locks and changes of identity.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Inner, Room, RoomError, RoomRegistry, builder::LONGEST};
use crate::{
    ban::{Ban, BanTarget},
    close::{Close, CloseCode, LeaveCause},
    identity::Identity,
    policy::Judging,
    relay::RelayChange,
    room::{MemberId, Shared, Wish},
};

impl Room {
    /// Disconnects a member, with this code and a sentence for the player. Its name is free at once.
    ///
    /// # Errors
    ///
    /// [`RoomError`] if there is no such room or member any more.
    pub async fn kick(
        &self,
        member: MemberId,
        code: CloseCode,
        reason: impl Into<String>,
    ) -> Result<(), RoomError> {
        let (room, registry) = self.both()?;
        let close = Close::new(code, reason.into()).because(LeaveCause::Kicked);
        registry.settled(&room).await;
        let put_out = registry.put_out(&room, member, &close);
        put_out.then_some(()).ok_or(RoomError::NoSuchMember)
    }

    /// Disconnects a member with 4002 and bans it from this room for this time, together with everyone who
    /// has its [`Identity::id`](crate::Identity::id) or, if it has none, its username.
    ///
    /// A ban outlives the room. A [store](crate::RoomRegistryBuilder::store) keeps it, and so does the broker
    /// of a [relay](crate::RoomRegistryBuilder::relay). Otherwise it ends with the process.
    ///
    /// # Errors
    ///
    /// [`RoomError`]. With [`RoomError::NotSaved`] the ban holds here.
    pub async fn ban(&self, member: MemberId, time: Duration) -> Result<(), RoomError> {
        let (room, registry) = self.both()?;
        let target = room.read(|state| state.ban_target(member)).ok_or(RoomError::NoSuchMember)?;
        registry.ban(&room, target, time.max(SHORTEST)).await
    }

    /// Bans everyone with this [`Identity::id`](crate::Identity::id), in the room or not, as
    /// [`ban`](Self::ban) does.
    ///
    /// # Errors
    ///
    /// [`RoomError`]. With [`RoomError::NotSaved`] the ban holds here.
    pub async fn ban_person(&self, id: &str, time: Duration) -> Result<(), RoomError> {
        let (room, registry) = self.both()?;
        registry.ban(&room, BanTarget::Person(id.into()), time.max(SHORTEST)).await
    }

    /// Bans everyone with this username or one that looks like it, in the room or not, as [`ban`](Self::ban)
    /// does.
    ///
    /// # Errors
    ///
    /// [`RoomError`]. With [`RoomError::NotSaved`] the ban holds here.
    pub async fn ban_name(&self, username: &str, time: Duration) -> Result<(), RoomError> {
        let (room, registry) = self.both()?;
        registry.ban(&room, BanTarget::Name(username.into()), time.max(SHORTEST)).await
    }

    /// Ends the ban of a person. Nothing happens if there is none.
    ///
    /// # Errors
    ///
    /// [`RoomError`]. With [`RoomError::NotSaved`] the ban is over here.
    pub async fn unban_person(&self, id: &str) -> Result<(), RoomError> {
        let (room, registry) = self.both()?;
        registry.ban(&room, BanTarget::Person(id.into()), Duration::ZERO).await
    }

    /// Ends the ban of a username. Nothing happens if there is none.
    ///
    /// # Errors
    ///
    /// [`RoomError`]. With [`RoomError::NotSaved`] the ban is over here.
    pub async fn unban_name(&self, username: &str) -> Result<(), RoomError> {
        let (room, registry) = self.both()?;
        registry.ban(&room, BanTarget::Name(username.into()), Duration::ZERO).await
    }

    /// Returns the bans that hold now, in no particular order; none if the room is gone.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum_cloud_variables::{BanTarget, RoomRegistry};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rooms = RoomRegistry::new();
    /// let arena = rooms.open("arena").await?;
    /// arena.ban_name("Eve", Duration::from_secs(3_600)).await?;
    /// assert_eq!(arena.bans()[0].target, BanTarget::Name("Eve".into()));
    /// arena.unban_name("eve").await?;
    /// assert!(arena.bans().is_empty());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn bans(&self) -> Vec<Ban> {
        self.both().map_or_else(|_| Vec::new(), |(room, registry)| registry.bans_of(&room))
    }

    /// Gives a member another identity. Its rights and the host's data in it apply from the member's next
    /// write on. Start from the identity that the member has
    /// ([`MemberInfo::identity`](crate::MemberInfo#structfield.identity)).
    ///
    /// The member keeps its username and stays in the room, even if the identity would not allow either.
    ///
    /// ```
    /// use axum_cloud_variables::{Room, RoomError};
    ///
    /// /// A player has lost, and watches from now on.
    /// fn lost(room: &Room, username: &str) -> Result<(), RoomError> {
    ///     let members = room.members();
    ///     let member = members.iter().find(|member| &*member.username == username);
    ///     let member = member.ok_or(RoomError::NoSuchMember)?;
    ///     room.set_identity(member.id, member.identity.clone().with_read_only(true))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RoomError::Gone`] and [`RoomError::NoSuchMember`].
    pub fn set_identity(&self, member: MemberId, identity: Identity) -> Result<(), RoomError> {
        let (room, _) = self.both()?;
        // The old identity is dropped after the room's lock is released, because it may have data of the
        // host's.
        let replaced = room.change(|state, _| state.set_identity(member, identity));
        replaced.map(drop).map_err(|_| RoomError::NoSuchMember)
    }

    /// Refuses newcomers from now on, with 4003 (1013 in [`Dialect::Scratch`](crate::Dialect)). Members stay.
    ///
    /// # Errors
    ///
    /// [`RoomError::Gone`] and [`RoomError::Unreachable`].
    pub async fn lock(&self) -> Result<(), RoomError> {
        let (room, registry) = self.both()?;
        registry.lock(&room, true).await
    }

    /// Lets newcomers in again.
    ///
    /// # Errors
    ///
    /// The same as [`lock`](Self::lock).
    pub async fn unlock(&self) -> Result<(), RoomError> {
        let (room, registry) = self.both()?;
        registry.lock(&room, false).await
    }
}

/// The shortest ban, because a ban of no time ends one.
const SHORTEST: Duration = Duration::from_millis(1);

impl RoomRegistry {
    /// Disconnects a person from every room, with this code and a sentence for the player: everyone with this
    /// [`Identity::id`](crate::Identity::id). With a relay, all nodes that receive the announcement do so. A
    /// node that cannot reach the broker at that moment does not. Nothing keeps the person from coming back:
    /// see [`Room::ban_person`](crate::Room::ban_person), and the app's own access control.
    ///
    /// # Errors
    ///
    /// [`RoomError::Unreachable`] if the broker did not answer, or after a
    /// [`shutdown`](RoomRegistry::shutdown). The person may still be on other nodes then.
    pub async fn kick_person(
        &self,
        id: &str,
        code: CloseCode,
        reason: impl Into<String>,
    ) -> Result<(), RoomError> {
        Judging::refuse();
        let reason = reason.into();
        // Both at once: the broker may be slow to answer.
        let announced = self.inner.announce_kick(id, code, &reason);
        let kicked = self.inner.kick_person(id, code, reason.clone());
        futures_util::future::join(announced, kicked).await.0
    }
}

impl Inner {
    /// Disconnects a person from every room of this node.
    pub(super) async fn kick_person(self: &Arc<Self>, id: &str, code: CloseCode, reason: String) {
        let close = Close::new(code, reason).because(LeaveCause::Kicked);
        let rooms: Vec<_> = self.rooms.read().values().cloned().collect();
        let members = |room: &Arc<Shared>| room.read(|state| state.members_of_person(id));
        let concerned = rooms.iter().filter(|room| !members(room).is_empty());
        let kick = async |room: &Arc<Shared>| {
            self.settled(room).await;
            members(room).into_iter().for_each(|member| _ = self.put_out(room, member, &close));
        };
        join_all(concerned.map(kick)).await;
    }
    /// Bans the target from a room for a time or, if the time is zero, ends its ban.
    async fn ban(
        &self,
        room: &Arc<Shared>,
        target: BanTarget,
        time: Duration,
    ) -> Result<(), RoomError> {
        let (time, key) = (time.min(LONGEST), target.key());
        if self.node.is_some() {
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let (who, name) = (key.clone(), target.name().into());
            let change = RelayChange::Ban { who, name, millis };
            self.at_broker(room, Wish::Change(change)).await?;
            if !time.is_zero() {
                // Banned members are disconnected in the room's order. This node may have missed that, and
                // have read the room when a short ban was over.
                room.change(|state, now| state.put_out_banned(&key, now));
            }
            return Ok(());
        }
        self.bans.set(room.id(), target, time, Instant::now().into_std());
        if !time.is_zero() {
            // Disconnected after the ban is in force, so that nobody can come back in between.
            room.change(|state, now| state.put_out_banned(&key, now));
        }
        let Some(persister) = &self.persister else { return Ok(()) };
        let saved = persister.order_bans(room.id(), self.rules.limits.admit_timeout).await;
        saved.map_err(|_| RoomError::NotSaved)
    }

    /// Returns the bans that hold in a room.
    fn bans_of(&self, room: &Arc<Shared>) -> Vec<Ban> {
        let now = Instant::now().into_std();
        match &self.node {
            Some(_) => room.read(|state| state.bans(now)),
            None => self.bans.list(room.id(), now),
        }
    }
}
