vcl 4.1;
# ../../scale/default.vcl.j2 for a cluster: the sidecar knows the workers and tries another one if one fails.
import bodyaccess;
import std;

backend api {
    .host = "api";
    .port = "80";
    .first_byte_timeout = 2s;
}

sub vcl_recv {
    if (req.method == "BAN") {
        # A worker that serves a new model sends this: answers of other models are dropped. Varnish sees only the
        # sidecar's address, so the port decides: only workers reach it.
        if (local.socket != "ban") {
            return (synth(405));
        }
        ban("obj.http.X-Served != " + req.http.X-Served);
        return (synth(204));
    }
    if (local.socket == "ban") {
        return (synth(405));
    }
    if (req.url == "/varnish") {
        return (synth(200));
    }
    if (req.method != "POST" || req.url != "/recommend" || req.http.Authorization) {
        return (pass);
    }
    if (std.integer(req.http.Content-Length, 65537) > 65536 || !std.cache_req_body(64KB)) {
        return (synth(413));
    }
    set req.http.X-Method = req.method;
    unset req.http.Cookie;
    return (hash);
}

sub vcl_hash {
    bodyaccess.hash_req_body();
    hash_data(req.http.Content-Type);  // the same bytes are another request with another type
}

sub vcl_backend_fetch {
    set bereq.http.Host = "api";  # the sidecar finds its route by this name
    if (bereq.http.X-Method) {
        set bereq.method = bereq.http.X-Method;
        unset bereq.http.X-Method;
    }
}

sub vcl_backend_response {
    if (beresp.status > 500 && beresp.http.Content-Type !~ "^application/json") {
        return (error);  # an answer of the sidecar, not of a worker
    }
    if (beresp.status != 200 || beresp.http.Cache-Control ~ "private|no-store") {
        set beresp.uncacheable = true;
        set beresp.ttl = 1s;
    } else {
        set beresp.grace = 5s;
    }
    return (deliver);
}

sub vcl_backend_error {
    set beresp.status = 503;
    set beresp.http.Content-Type = "application/json";
    set beresp.http.Retry-After = "1";
    set beresp.body = {"{"error":{"code":"unavailable","message":"No worker answers.","field":null}}"};
    return (deliver);
}

sub vcl_synth {
    set resp.http.Content-Type = "application/json";
    if (resp.status == 413) {
        set resp.body = {"{"error":{"code":"too_large","message":"The body is over 64 KiB, or its length is missing.","field":null}}"};
    }
    return (deliver);
}

sub vcl_deliver {
    set resp.http.X-Edge = obj.hits;
    if (obj.hits > 0) {
        set resp.http.X-Found = "edge";
    }
}
