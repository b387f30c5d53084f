package integration_test

import (
	"fmt"
	"strings"
)

// attempt is an odd request: its Authorization lines, and the query. In both,
// {live}, {expired}, {revoked}, {unminted} and {body} stand for keys of that
// kind; {body} is what follows the prefix of the live one.
type attempt struct {
	lines []string
	query string
}

func line(values ...string) attempt { return attempt{lines: values} }

// attempts are what the table in docs/appendix/credentials.md shows, by group.
func attempts() []struct {
	title string
	cases []attempt
} {
	return []struct {
		title string
		cases []attempt
	}{
		{"Well-formed", wellFormed()},
		{"The scheme", schemes()},
		{"What stands between scheme and key", separators()},
		{"The key's length", lengths()},
		{"The key's characters", characters()},
		{"The key's range", ranges()},
		{"Other credentials", others()},
		{"Several credentials", several()},
		{"The query", queries()},
	}
}

func wellFormed() []attempt {
	return []attempt{
		line("Bearer {live}"), line("bearer {live}"), line("BEARER {live}"), line("bEaReR {live}"),
		line("Bearer  {live}"), line("Bearer      {live}"), line("Bearer {live} "), line(" Bearer {live}"),
		line("\tBearer {live}\t"),
		line("Bearer {expired}"), line("Bearer {revoked}"), line("Bearer {unminted}"),
	}
}

func schemes() []attempt {
	var cases []attempt
	for _, scheme := range []string{
		"", "Basic", "Digest", "Token", "Negotiate", "DPoP", "MAC", "Bearer:", "Bearer,", "Bearer=", "Bearer;", "Bearers",
		"Beare", "xBearer", "Bear er", "Bearer bearer", `"Bearer"`, "Bearer\x0b", "\u00a0Bearer", "Βearer", "Ｂearer",
		"Authorization: Bearer", "Basic Bearer", "X", "ApiKey", "lm_sys_", "Bearer lm_sys_", "AWS4-HMAC-SHA256 Credential=",
	} {
		cases = append(cases, line(strings.TrimLeft(scheme+" {live}", " ")))
	}
	return cases
}

func separators() []attempt {
	var cases []attempt
	for _, s := range []string{
		"", "\t", " \t", "\t ", "  \t  ", "\u00a0", "\u2003", "\u200b", "+", "%20", ",", ", ", "=", ": ", "; ", " = ", " \"", " '", " <", " (",
		" token=", " key=", " realm=\"lumio\", ", " b64:", "  ,", "\x0c", "\x0b",
	} {
		cases = append(cases, line("Bearer"+s+"{live}"))
	}
	return cases
}

func lengths() []attempt {
	cases := []attempt{
		line("Bearer lm_sys_"), line("Bearer lm_sys"), line("Bearer lm_"), line("Bearer "), line("Bearer"), line(""), line(" "),
		line("lm_sys_"), line("lm_sys_{body}"), line("{live}"),
	}
	for _, n := range []int{1, 2, 21, 22, 23, 42, 43, 64, 65, 66, 75, 77, 78, 100, 152, 255, 256, 1000, 8000} {
		cases = append(cases, line("Bearer lm_sys_"+repeat("0", n)))
	}
	for _, tail := range []string{"0", "00", "{body}", " {live}", ",{live}", ", {live}", ";", ",", ".", "=", "==", "\"", " x", " realm=\"lumio\"", "\t0", "/", "%00", "%20", "#", "?"} {
		cases = append(cases, line("Bearer {live}"+tail))
	}
	return cases
}

func characters() []attempt {
	var cases []attempt
	for _, prefix := range []string{"LM_SYS_", "Lm_sys_", "lm_Sys_", "lm_sYS_", "lm-sys-", "lm.sys.", "lm_sys-", "lm__sys_", "lmsys", "lm_sys", "lm_sys__", "_lm_sys_", "lm_test_", "lm_", "lm_sys\u200b_", "ｌm_sys_", "lm%5Fsys%5F", "lm_ſys_"} {
		cases = append(cases, line("Bearer "+prefix+"{body}"))
	}
	for _, c := range []string{"-", "_", ".", "~", "+", "/", "=", " ", "%", "!", "*", "\"", "\\", ",", ";", ":", "@", "[", "{", "`", "\x7f", "é", "Ａ", "İ", "\u0301", "٣", "😀", "\xff", "\xc0\x80"} {
		cases = append(cases, line("Bearer lm_sys_"+repeat("0", 40)+c+repeat("0", 35)))
	}
	return cases
}

func ranges() []attempt {
	const zero, most = "0", "z"
	parts := []string{
		repeat(zero, 22) + repeat(zero, 43) + repeat(zero, 11),
		repeat(most, 22) + repeat(zero, 43) + repeat(zero, 11),
		repeat(zero, 22) + repeat(most, 43) + repeat(zero, 11),
		repeat(zero, 22) + repeat(zero, 43) + repeat(most, 11),
		repeat(most, 76),
		// The largest numbers, and one more than each.
		"7n42DGM5Tflk9n8mt7Fhc7" + repeat(zero, 54),
		"7n42DGM5Tflk9n8mt7Fhc8" + repeat(zero, 54),
		repeat(zero, 65) + "LygHa16AHYF",
		repeat(zero, 65) + "LygHa16AHYG",
		"LygHa16AHYF" + repeat(zero, 65),
	}
	var cases []attempt
	for _, p := range parts {
		cases = append(cases, line("Bearer lm_sys_"+p))
	}
	return cases
}

func others() []attempt {
	return []attempt{
		{},
		line("Basic dXNlcjpwYXNz"), line("Basic bG1fc3lzXzAwMDA="), line("Bearer abc"), line("Bearer abc.def.ghi"),
		line("Bearer lm_eyJhbGciOiJFUzI1NiJ9.e30.c2ln"), line("Bearer lm_pat_0000"), line("Negotiate YII="), line("Token token=abc"),
		line("Digest username=\"a\", realm=\"b\""), line("Bearer sk_live_0000"), line("null"), line("undefined"), line("Bearer null"),
		line("Bearer undefined"), line("Bearer [object Object]"), line("Bearer ${API_KEY}"), line("Bearer {{key}}"),
		line("Basic lm_sys_:"), line("Digest username=\"lm_sys_{body}\""), line("Bearer jwt;x=lm_sys_0"), line("anything Lm_SyS_ at all"),
	}
}

func several() []attempt {
	return []attempt{
		line("Bearer {live}", "Bearer {live}"), line("Bearer {live}", "Bearer {unminted}"), line("Bearer {unminted}", "Bearer {live}"),
		line("Bearer {live}", ""), line("", "Bearer {live}"), line("", ""), line("Basic dXNlcjpwYXNz", "Bearer {live}"),
		line("Bearer {live}", "Basic dXNlcjpwYXNz"), line("Basic dXNlcjpwYXNz", "Basic dXNlcjpwYXNz"),
		line("Bearer {live}", "Bearer {live}", "Bearer {live}"),
		line("Bearer {live}, Bearer {live}"), line("Bearer {live},Basic dXNlcjpwYXNz"), line("Basic dXNlcjpwYXNz, Bearer {live}"),
	}
}

func queries() []attempt {
	live := []string{"Bearer {live}"}
	var cases []attempt
	for _, q := range []string{
		"token={live}", "token=lm_sys_", "Token={live}", "%74oken={live}", "token=%6cm_sys_{body}", "token=LM_SYS_0", "a=1&token={live}",
		"a=1;token={live}", "token=x&token={live}", "token=Bearer+{live}", "token=%zz{live}",
	} {
		cases = append(cases, attempt{query: q}, attempt{lines: live, query: q})
	}
	for _, q := range []string{
		"access_token={live}", "api_key=%6cm_sys_{body}", "q=%256cm%255Fsys_{body}", "{live}", "q=lm_sys_{0×20}",
		"q=lm_sys_{0×19}", "token=abc", "token=", "q=lm_sys_", "tokens={body}",
	} {
		cases = append(cases, attempt{query: q}, attempt{lines: live, query: q})
	}
	return cases
}

// repeat marks a run of one character, so that the table can say {0×76}.
func repeat(s string, n int) string { return fmt.Sprintf("{%s×%d}", s, n) }
