/* SPDX-License-Identifier: ISC */
/*
 * snprintf for freestanding builds (the library OS); empty on the host.
 *
 * Knows: flags - 0 + space #, width and precision (also *), h hh l ll z j t,
 * conversions d i u x X o c s p %. No floating point. An unknown conversion is
 * copied as it stands. As in C: the result is what would have been written, and
 * the output is always terminated if there is room for one byte.
 */
#if !__STDC_HOSTED__
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int snprintf(char *d, size_t n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int vsnprintf(char *d, size_t n, const char *fmt, va_list ap);

struct out {
	char *d;
	size_t size, len;
};

struct spec {
	bool left, zero, plus, space, alt;
	int width, prec; /* prec -1: none */
	int longs; /* -2 hh, -1 h, 0, 1 l and everything else of 64 bits */
};

static void put(struct out *o, char c)
{
	if (o->len + 1 < o->size)
		o->d[o->len] = c;
	o->len++;
}

static void pad(struct out *o, char c, int n)
{
	while (n-- > 0)
		put(o, c);
}

static void put_field(struct out *o, const struct spec *s, const char *text, int len)
{
	if (!s->left)
		pad(o, ' ', s->width - len);
	for (int i = 0; i < len; i++)
		put(o, text[i]);
	if (s->left)
		pad(o, ' ', s->width - len);
}

static void put_number(struct out *o, struct spec *s, uint64_t v, const char *prefix, unsigned base,
		       bool upper)
{
	const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
	char buf[24], *p = buf + sizeof(buf);
	int n, plen = 0, zeros;

	while (prefix[plen])
		plen++;
	for (uint64_t left = v; left; left /= base)
		*--p = digits[left % base];
	if (!v && s->prec != 0)
		*--p = '0';
	n = buf + sizeof(buf) - p;
	zeros = s->prec > n ? s->prec - n : 0;
	if (s->prec < 0 && s->zero && !s->left && s->width > n + plen)
		zeros = s->width - n - plen;
	if (!s->left)
		pad(o, ' ', s->width - plen - zeros - n);
	for (int i = 0; i < plen; i++)
		put(o, prefix[i]);
	pad(o, '0', zeros);
	for (int i = 0; i < n; i++)
		put(o, p[i]);
	if (s->left)
		pad(o, ' ', s->width - plen - zeros - n);
}

static int get_int(const char **f, va_list *ap)
{
	int v = 0;

	if (**f == '*') {
		(*f)++;
		return va_arg(*ap, int);
	}
	while (**f >= '0' && **f <= '9')
		v = v * 10 + *(*f)++ - '0';
	return v;
}

static const char *get_spec(const char *f, struct spec *s, va_list *ap)
{
	*s = (struct spec){.prec = -1};
	for (;; f++) {
		if (*f == '-')
			s->left = true;
		else if (*f == '0')
			s->zero = true;
		else if (*f == '+')
			s->plus = true;
		else if (*f == ' ')
			s->space = true;
		else if (*f == '#')
			s->alt = true;
		else
			break;
	}
	s->width = get_int(&f, ap);
	if (s->width < 0) {
		s->left = true;
		s->width = -s->width;
	}
	if (*f == '.') {
		f++;
		s->prec = get_int(&f, ap);
	}
	for (;; f++) {
		if (*f == 'h')
			s->longs--;
		else if (*f == 'l' || *f == 'z' || *f == 'j' || *f == 't')
			s->longs = 1;
		else
			return f;
	}
}

static int64_t get_signed(const struct spec *s, va_list *ap)
{
	if (s->longs > 0)
		return va_arg(*ap, int64_t);
	int v = va_arg(*ap, int);

	return s->longs == -1 ? (int16_t)v : s->longs < -1 ? (int8_t)v : v;
}

static uint64_t get_unsigned(const struct spec *s, va_list *ap)
{
	if (s->longs > 0)
		return va_arg(*ap, uint64_t);
	unsigned v = va_arg(*ap, unsigned);

	return s->longs == -1 ? (uint16_t)v : s->longs < -1 ? (uint8_t)v : v;
}

static void put_signed(struct out *o, struct spec *s, int64_t v)
{
	const char *sign = v < 0 ? "-" : s->plus ? "+" : s->space ? " " : "";

	put_number(o, s, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, sign, 10, false);
}

static void put_string(struct out *o, const struct spec *s, const char *text)
{
	int n = 0;

	if (!text)
		text = "(null)";
	while ((s->prec < 0 || n < s->prec) && text[n])
		n++;
	put_field(o, s, text, n);
}

static void convert(struct out *o, struct spec *s, char conv, va_list *ap)
{
	uint64_t v;
	char c;

	switch (conv) {
	case 'd':
	case 'i':
		put_signed(o, s, get_signed(s, ap));
		break;
	case 'u':
		put_number(o, s, get_unsigned(s, ap), "", 10, false);
		break;
	case 'o':
		put_number(o, s, get_unsigned(s, ap), s->alt ? "0" : "", 8, false);
		break;
	case 'x':
	case 'X':
		v = get_unsigned(s, ap);
		put_number(o, s, v, s->alt && v ? (conv == 'X' ? "0X" : "0x") : "", 16, conv == 'X');
		break;
	case 'p':
		put_number(o, s, (uintptr_t)va_arg(*ap, void *), "0x", 16, false);
		break;
	case 'c':
		c = va_arg(*ap, int);
		put_field(o, s, &c, 1);
		break;
	case 's':
		put_string(o, s, va_arg(*ap, const char *));
		break;
	case '%':
		put(o, '%');
		break;
	default:
		put(o, '%');
		put(o, conv);
	}
}

int vsnprintf(char *d, size_t n, const char *fmt, va_list ap)
{
	struct out o = {d, n, 0};
	va_list args;

	va_copy(args, ap);
	while (*fmt) {
		struct spec s;

		if (*fmt != '%') {
			put(&o, *fmt++);
			continue;
		}
		fmt = get_spec(fmt + 1, &s, &args);
		if (!*fmt)
			break;
		convert(&o, &s, *fmt++, &args);
	}
	va_end(args);
	if (n)
		d[o.len < n ? o.len : n - 1] = 0;
	return (int)o.len;
}

int snprintf(char *d, size_t n, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vsnprintf(d, n, fmt, ap);
	va_end(ap);
	return r;
}
#else
typedef int fmt_is_the_c_librarys; /* a file must declare something */
#endif
