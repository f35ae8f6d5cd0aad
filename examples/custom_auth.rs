//! A quiz behind a real login, by axum-login, which decides who may join and under which name, and which
//! variables each user may write. `cargo run --example custom_auth`, then open http://127.0.0.1:3000 as
//! `ms-frizzle` in one browser and as `ann` or `ben` in another; every password is `quiz`.
//!
//! The teacher asks, each pupil answers under their own name, and guests only watch.

use std::{collections::HashMap, convert::Infallible, error::Error, net::SocketAddr};

use axum::{
    Form, Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use axum_cloud_variables::{
    CloseCode, Creators, Identity, RoomRegistry, Schema,
    policy::{Policy, Rights, Verdict, Write},
    serve,
};
use axum_login::{AuthManagerLayerBuilder, AuthUser, AuthnBackend, UserId};
use clap::Parser;
use serde::Deserialize;
use tokio::net::TcpListener;
use tower_sessions::{MemoryStore, SessionManagerLayer};

/// A quiz with a login, roles and rights.
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Role {
    Teacher,
    Pupil,
    Guest,
}

#[derive(Debug, Clone)]
struct User {
    name: String,
    password: String,
    role: Role,
}

impl AuthUser for User {
    type Id = String;

    fn id(&self) -> String {
        self.name.clone()
    }

    fn session_auth_hash(&self) -> &[u8] {
        self.password.as_bytes()
    }
}

/// The users. A real host has a database with hashes of passwords instead.
#[derive(Clone)]
struct Users(HashMap<String, User>);

impl Users {
    fn of_the_class() -> Self {
        let class = [
            ("ms-frizzle", Role::Teacher),
            ("ann", Role::Pupil),
            ("ben", Role::Pupil),
            ("guest", Role::Guest),
        ];
        let user = |(name, role): (&str, _)| {
            (name.to_owned(), User { name: name.into(), password: "quiz".into(), role })
        };
        Self(class.map(user).into())
    }
}

#[derive(Debug, Clone, Deserialize)]
struct Login {
    name: String,
    password: String,
}

impl AuthnBackend for Users {
    type User = User;
    type Credentials = Login;
    type Error = Infallible;

    async fn authenticate(&self, login: Login) -> Result<Option<User>, Infallible> {
        let user = self.0.get(login.name.trim());
        Ok(user.filter(|user| user.password == login.password).cloned())
    }

    async fn get_user(&self, name: &UserId<Self>) -> Result<Option<User>, Infallible> {
        Ok(self.0.get(name).cloned())
    }
}

type AuthSession = axum_login::AuthSession<Users>;

/// The rights in the quiz: the teacher writes the question, and each pupil their own answer.
struct Classroom {
    pupils: Rights,
}

impl Policy for Classroom {
    fn write(&self, write: &Write<'_>) -> Verdict {
        match write.identity().data::<Role>() {
            Some(Role::Teacher) => Verdict::Accept,
            _ => self.pupils.write(write),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Args { listen } = Args::parse();
    let pupils = Rights::new().host_only("question").owner_only("answer_{name}");
    let rooms = RoomRegistry::builder()
        .policy(Classroom { pupils })
        .schema(Schema::Growing) // an answer for each pupil
        .creators(Creators::Host)
        .build()?;
    rooms.open("quiz").variables([("question", "Are you ready?")]).await?;

    // This is plain http. A real host has TLS, and leaves `with_secure` as it is.
    let sessions = SessionManagerLayer::new(MemoryStore::default()).with_secure(false);
    let app = Router::new()
        .route("/", get(quiz))
        .route("/login", get(login_page).post(log_in))
        .route("/logout", post(log_out))
        .merge(rooms.mount("/cloud").require_identity(true))
        .layer(middleware::from_fn(identify))
        .layer(AuthManagerLayerBuilder::new(Users::of_the_class(), sessions).build())
        .with_state(rooms);
    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    serve(listener, app).await?;
    Ok(())
}

/// Passes the login's user on to the mount, as an identity.
async fn identify(auth: AuthSession, mut request: Request, next: Next) -> Response {
    if let Some(user) = auth.user {
        let identity = Identity::new()
            .with_id(&user.name)
            .with_username(&user.name)
            .with_rooms(["quiz"])
            .with_read_only(user.role == Role::Guest)
            .with_data(user.role);
        request.extensions_mut().insert(identity);
    }
    next.run(request).await
}

async fn quiz(auth: AuthSession) -> Response {
    match auth.user {
        Some(user) => {
            let page = include_str!("custom_auth/quiz.html");
            Html(page.replace("{{name}}", &user.name)).into_response()
        }
        None => Redirect::to("/login").into_response(),
    }
}

async fn login_page() -> Html<&'static str> {
    Html(include_str!("custom_auth/login.html"))
}

async fn log_in(mut auth: AuthSession, Form(login): Form<Login>) -> Response {
    let Ok(Some(user)) = auth.authenticate(login).await else {
        return (StatusCode::UNAUTHORIZED, login_page().await).into_response();
    };
    match auth.login(&user).await {
        Ok(()) => Redirect::to("/").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Logs a user out, and removes them from every room, in every tab.
async fn log_out(mut auth: AuthSession, State(rooms): State<RoomRegistry>) -> Response {
    if let Ok(Some(user)) = auth.logout().await {
        // This fails only with a relay whose broker is unreachable.
        _ = rooms.kick_person(&user.name, CloseCode::Username, "you logged out").await;
    }
    Redirect::to("/login").into_response()
}
