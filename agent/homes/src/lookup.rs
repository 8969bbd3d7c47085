//! Names are looked up once, and the address that was judged is the one that is connected to.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Looks names up for a client of HTTP, and leaves out the addresses that it may not connect to.
#[derive(Debug)]
pub struct Judged<J> {
    judge: Arc<J>,
}

impl<J> Judged<J>
where
    J: Fn(&str, IpAddr) -> Result<(), String> + Send + Sync + 'static,
{
    /// A resolver by `judge`, which is given a host and one of its addresses, and says in words why that
    /// is not connected to.
    pub fn new(judge: J) -> Self {
        let judge = Arc::new(judge);
        Self { judge }
    }
}

impl<J> Resolve for Judged<J>
where
    J: Fn(&str, IpAddr) -> Result<(), String> + Send + Sync + 'static,
{
    fn resolve(&self, name: Name) -> Resolving {
        let judge = Arc::clone(&self.judge);
        Box::pin(async move {
            let host = name.as_str();
            let found = tokio::net::lookup_host((host, 0)).await?;
            let mut admitted: Vec<SocketAddr> = Vec::new();
            let mut refused = None;
            for address in found {
                match judge(host, address.ip()) {
                    Ok(()) => admitted.push(address),
                    Err(why) => refused = Some(why),
                }
            }
            match refused {
                Some(why) if admitted.is_empty() => Err(why.into()),
                Some(_) | None => Ok(Box::new(admitted.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_refused_is_left_out_and_a_name_with_nothing_else_is_refused_with_why() {
        let resolver = Judged::new(|host: &str, address: IpAddr| match address {
            IpAddr::V4(v4) if v4.is_loopback() => Ok(()),
            IpAddr::V4(_) | IpAddr::V6(_) => Err(format!("{host} is {address}")),
        });
        let found = resolver.resolve("127.0.0.1".parse().unwrap()).await;
        let found: Vec<IpAddr> = found.unwrap().map(|address| address.ip()).collect();
        assert_eq!(found, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        let refused = resolver.resolve("169.254.169.254".parse().unwrap()).await;
        let why = refused.err().expect("it is refused").to_string();
        assert_eq!(why, "169.254.169.254 is 169.254.169.254");
    }
}
