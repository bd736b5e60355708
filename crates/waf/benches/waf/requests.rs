//! The requests that are measured.

/// A GET as browsers send it: their headers, five arguments, three cookies.
pub(crate) const GET: &str = "GET /products/list?category=running-shoes&page=2&sort=price_asc&color=dark+blue&q=trail%20shoes HTTP/1.1\r
Host: shop.example.com\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r
Accept-Language: en-US,en;q=0.9,de;q=0.8\r
Accept-Encoding: gzip, deflate, br, zstd\r
Referer: https://shop.example.com/products\r
Cookie: session=6f1ed002ab5595859014ebf0951522d9; theme=dark; _ga=GA1.2.1234567890.1700000000\r
Sec-Fetch-Dest: document\r
Sec-Fetch-Mode: navigate\r
Sec-Fetch-Site: same-origin\r
Upgrade-Insecure-Requests: 1\r
Connection: keep-alive\r
\r
";

/// An order as a shop's page sends it.
pub(crate) fn post(body: &str) -> String {
    format!(
        "POST /api/orders HTTP/1.1\r
Host: shop.example.com\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r
Accept: application/json\r
Accept-Language: en-US,en;q=0.9\r
Accept-Encoding: gzip, deflate, br\r
Origin: https://shop.example.com\r
Referer: https://shop.example.com/cart\r
Cookie: session=6f1ed002ab5595859014ebf0951522d9; theme=dark\r
Content-Type: application/json\r
Content-Length: {}\r
Connection: keep-alive\r
\r
{body}",
        body.len()
    )
}

/// About 900 bytes for each order of this many lines.
pub(crate) fn orders(lines: usize) -> String {
    let line = |number: usize| {
        format!(
            r#"{{"sku":"SHOE-{number:05}","title":"Trail running shoe, men's, blue","quantity":{},"price":129.95,"options":{{"size":"43","width":"regular","gift":false}}}}"#,
            number % 3 + 1
        )
    };
    let lines: Vec<String> = (0..lines).map(line).collect();
    format!(
        r#"{{"customer":{{"id":48213,"name":"Ada Lovelace","email":"ada@example.com","phone":"+44 20 7946 0958"}},"lines":[{}],"address":{{"street":"12 St James's Square","city":"London","postcode":"SW1Y 4JH","country":"GB"}},"notes":"Please ring the bell twice; leave it with the neighbour if nobody is in.","coupon":null,"newsletter":true}}"#,
        lines.join(",")
    )
}

/// 64 KB of one.
pub(crate) fn large() -> String {
    let long = "blue, with a sole that grips on wet rock. ".repeat(8);
    post(&orders(130).replace("blue", &long))
}
