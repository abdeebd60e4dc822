//! Cookies and headers of a visit.

use sonde_proto::to_json;
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{Cookie, GetCookiesCommand, SetCookiesCommand};
use sonde_runtime::clock::wall_us;
use tokio::time::Instant;

use super::script::{Refusal, VALUE_BYTES};
use super::{Done, Page, reported};
use crate::engine::CommandReport;

/// Runs such a command.
pub(super) async fn run(page: &mut impl Page, name: &str, step: &Step, deadline: Instant) -> CommandReport {
    let done = match step {
        Step::GetCookies(get) => get_cookies(page, get, deadline).await,
        Step::SetCookies(set) => set_cookies(page, set, deadline).await,
        Step::SetHeaders(set) => {
            page.progress().detail("setting headers");
            page.send_headers(&set.headers, deadline).await.map(|()| String::new())
        }
        _ => Err(Refusal::new("unknown_step", "the step is none of cookies or headers").into()),
    };
    reported(page, name, done, deadline).await
}

async fn get_cookies<P: Page>(page: &mut P, get: &GetCookiesCommand, deadline: Instant) -> Done<P> {
    page.progress().detail("reading cookies");
    let mut jar = page.cookies(deadline).await?;
    jar.retain(|cookie| is_below(&cookie.domain, &get.domain));
    jar.sort_by(|a, b| (&a.domain, &a.path, &a.name).cmp(&(&b.domain, &b.path, &b.name)));
    let list: serde_json::Value = jar.iter().map(|cookie| to_json("sonde.visit.v1.Cookie", cookie)).collect();
    let text = list.to_string();
    if text.len() > VALUE_BYTES as usize {
        let message = format!("{} bytes of JSON, at most {VALUE_BYTES}", text.len());
        return Err(Refusal::new("result_too_large", message).into());
    }
    Ok(text)
}

/// Whether a cookie's domain is `wanted` or below it; "" is above all.
fn is_below(domain: &str, wanted: &str) -> bool {
    let bare = |name: &str| name.trim_start_matches('.').to_ascii_lowercase();
    let (domain, wanted) = (bare(domain), bare(wanted));
    wanted.is_empty() || domain == wanted || domain.ends_with(&format!(".{wanted}"))
}

async fn set_cookies<P: Page>(page: &mut P, set: &SetCookiesCommand, deadline: Instant) -> Done<P> {
    page.progress().detail("setting cookies");
    let cookies: Vec<Cookie> = set.cookies.iter().map(with_defaults).collect();
    page.put_cookies(&cookies, deadline).await?;
    // A browser may leave one out and say nothing.
    let jar = page.cookies(deadline).await?;
    let now = wall_us() / 1_000_000;
    let expired = |cookie: &Cookie| cookie.expires.is_some_and(|at| at.seconds <= now);
    let missing = cookies.iter().filter(|cookie| !expired(cookie)).find(|wanted| {
        !jar.iter().any(|kept| is_same(kept, wanted) && kept.value == wanted.value)
            // A later one of the same list has replaced it.
            && cookies.iter().rfind(|other| is_same(other, wanted)) == Some(wanted)
    });
    match missing {
        None => Ok(String::new()),
        Some(cookie) => {
            let message =
                format!("the browser did not take the cookie {:?} of {}", cookie.name, cookie.domain);
            Err(Refusal::new("cookie_refused", message).into())
        }
    }
}

fn with_defaults(cookie: &Cookie) -> Cookie {
    let mut cookie = cookie.clone();
    cookie.domain.make_ascii_lowercase();
    if cookie.path.is_empty() {
        cookie.path.push('/');
    }
    cookie
}

fn is_same(a: &Cookie, b: &Cookie) -> bool {
    (&a.name, &a.domain, &a.path, a.partition.is_some())
        == (&b.name, &b.domain, &b.path, b.partition.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M21
    #[test]
    fn a_domain_stands_for_itself_and_what_is_below_it() {
        assert!(is_below(".a.test", "") && is_below(".a.test", "a.test") && is_below("A.test", ".a.test"));
        assert!(
            is_below("x.a.test", "a.test")
                && !is_below("xa.test", "a.test")
                && !is_below("a.test", "x.a.test")
        );
    }
}
