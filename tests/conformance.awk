# The table of all adapters and plugins by the cases of the conformance suite, from the lines that
# tests/harness/table.rs keeps: adapter, case, and milliseconds or FAILED, with tabs between.
BEGIN { FS = "\t" }
NF != 3 { next }

!($1 in column) { column[$1] = ++adapters; name[adapters] = $1 }
!($2 in row) { row[$2] = ++cases; title[cases] = $2; if (length($2) > width) width = length($2) }
{ cell[$1, $2] = $3 == "FAILED" ? "NO" : "ok" }
$3 == "FAILED" { failed[$1]++ }
{ took[$1] += $3 }

function letter(i) { return substr("abcdefghijklmnopqrstuvwxyz", i, 1) }

END {
    if (!adapters) exit
    print "conformance of " adapters " adapters and plugins:"
    for (i = 1; i <= adapters; i++)
        printf "  %s  %-*s  %6.1f s  %s\n", letter(i), 24, name[i], took[name[i]] / 1000,
            failed[name[i]] ? failed[name[i]] " FAILED" : "conforms"
    printf "  %-*s", width, ""
    for (i = 1; i <= adapters; i++) printf " %2s", letter(i)
    print ""
    for (r = 1; r <= cases; r++) {
        printf "  %-*s", width, title[r]
        for (i = 1; i <= adapters; i++) {
            found = cell[name[i], title[r]]
            printf " %2s", found == "" ? "-" : found
        }
        print ""
    }
}
