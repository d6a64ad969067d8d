"""Parser from tokens to the syntax tree: the subset of CEL's grammar that filters have.

Operators are joined on an explicit stack, so that one level of brackets costs
four Python frames: within `MAX_DEPTH` levels no text can exhaust Python's stack.
"""

from __future__ import annotations

from typing import TypeVar

from gateway.errors import InvalidFilter
from gateway.filters.cel.lexer import Token, tokens
from gateway.filters.cel.tree import (
    Binary,
    Call,
    Choice,
    Constant,
    Has,
    ListOf,
    Logic,
    Name,
    Node,
    Quantifier,
    Select,
    Subscript,
    Unary,
    walk,
)
from gateway.filters.cel.values import MAX_INT, MIN_INT

MAX_DEPTH = 32
MAX_NODES = 256
QUANTIFIERS = ("exists", "all", "exists_one")

_RELATIONS = ("<", "<=", ">", ">=", "==", "!=", "in")
_LEVELS = {"||": 1, "&&": 2, "+": 4, "-": 4, "*": 5, "/": 5, "%": 5} | dict.fromkeys(_RELATIONS, 3)
_RESERVED = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_HINTS = {
    "and": "write && for and",
    "or": "write || for or",
    "AND": "write && for and",
    "OR": "write || for or",
}
_Made = TypeVar("_Made", bound=Node)


def parse(source: str) -> Node:
    """Syntax tree of a filter, of bounded size and depth. Raises `InvalidFilter`."""
    return _Parser(tokens(source)).whole()


class _Parser:
    def __init__(self, found: list[Token]) -> None:
        self._tokens = found
        self._next = 0
        self._depth = 0
        self._nodes = 0

    def whole(self) -> Node:
        if self._token.kind == "end":
            raise InvalidFilter("the filter is empty", column=1)
        root = self._expression()
        if self._token.kind != "end":
            raise self._unexpected("an operator or the end")
        for node, depth in walk(root):
            if depth > MAX_DEPTH:
                raise self._too_deep(node.column)
        return root

    # Expr = ConditionalOr ["?" ConditionalOr ":" Expr]
    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH + 1:  # levels of brackets, and the innermost expression
            raise self._too_deep(self._token.column)
        node = self._operation()
        if self._at("?"):
            mark = self._advance()
            then = self._operation()
            self._expect(":")
            node = self._made(Choice(mark.column, node, then, self._expression()))
        self._depth -= 1
        return node

    # ConditionalOr to Multiplication: all binary operators
    def _operation(self) -> Node:
        operands = [self._unary()]
        operators: list[Token] = []

        def reduce() -> None:
            right, left = operands.pop(), operands.pop()
            operands.append(self._joined(operators.pop(), left, right))

        while self._token.kind == "operator" and self._token.text in _LEVELS:
            level = _LEVELS[self._token.text]
            while operators and _LEVELS[operators[-1].text] >= level:
                reduce()
            operators.append(self._advance())
            operands.append(self._unary())
        while operators:
            reduce()
        return operands[0]

    def _joined(self, operator: Token, left: Node, right: Node) -> Node:
        sign = operator.text
        if sign not in ("&&", "||"):
            return self._made(Binary(operator.column, sign, left, right))
        operands: tuple[Node, ...] = ()
        for node in (left, right):
            same = isinstance(node, Logic) and node.operator == sign
            operands += node.operands if isinstance(node, Logic) and same else (node,)
        return self._made(Logic(operator.column, sign, operands))

    # Unary = Member | "!" {"!"} Member | "-" {"-"} Member
    def _unary(self) -> Node:
        sign = last = self._token
        if not (self._at("!") or self._at("-")):
            return self._member()
        count = 0
        while self._at(sign.text):
            last = self._advance()
            count += 1
        if sign.text == "-" and count % 2 and type(self._token.value) in (int, float):
            node = self._member(minus=last)
            count -= 1
        else:
            node = self._member()
        for _ in range(2 - count % 2 if count else 0):  # another pair of signs changes nothing
            node = self._made(Unary(sign.column, sign.text, node))
        return node

    # Member = Primary {"." SELECTOR ["(" [ExprList] ")"] | "[" Expr "]"}
    def _member(self, minus: Token | None = None) -> Node:
        node = self._constant(minus) if minus else self._primary()
        while True:
            if self._at("."):
                self._advance()
                node = self._selected(node)
            elif self._at("["):
                bracket = self._advance()
                if self._at("?"):
                    raise self._unsupported("optional access", self._token)
                node = self._made(Subscript(bracket.column, node, self._expression()))
                self._expect("]")
            elif self._at("{") and isinstance(node, Name | Select):
                raise self._unsupported("message construction", self._token)
            else:
                return node

    def _selected(self, operand: Node) -> Node:
        if self._at("?"):
            raise self._unsupported("optional access", self._token)
        field = self._token
        if field.text in ("in", "true", "false", "null"):
            detail = (
                f'{field.text} is a word of the language; write ["{field.text}"] for the member'
            )
            raise InvalidFilter(detail, column=field.column)
        if field.kind != "name":
            raise self._unexpected("the name of a member")
        self._advance()
        if not self._at("("):
            return self._made(Select(field.column, operand, field.text))
        arguments = self._arguments()
        if field.text in QUANTIFIERS:
            return self._quantifier(field, operand, arguments)
        return self._made(Call(field.column, field.text, (operand, *arguments), True))

    def _quantifier(self, kind: Token, over: Node, arguments: tuple[Node, ...]) -> Node:
        match arguments:
            case (Name(name=variable), body):
                return self._made(Quantifier(kind.column, kind.text, over, variable, body))
        example = f'targets.{kind.text}(t, t.type == "pod")'
        detail = f"{kind.text}() takes a variable and a condition, such as {example}"
        raise InvalidFilter(detail, column=kind.column)

    def _primary(self) -> Node:
        token = self._token
        if token.kind == "constant":
            return self._constant(None)
        if token.kind == "name":
            return self._named()
        if self._at("("):
            self._advance()
            node = self._expression()
            self._expect(")")
            return node
        if self._at("["):
            bracket = self._advance()
            items = self._listed("]", trailing_comma=True)
            return self._made(ListOf(bracket.column, items))
        if self._at("{"):
            raise self._unsupported("map literals", token)
        if self._at("."):
            raise self._unsupported("leading dot", token)
        raise self._unexpected("a value")

    def _constant(self, minus: Token | None) -> Node:
        """Literal with the sign of a number, because -2^63 is in range and 2^63 is not."""
        token = self._advance()
        value, column = token.value, token.column
        if minus and isinstance(value, int | float):
            value, column = -value, minus.column
        if type(value) is int and not MIN_INT <= value <= MAX_INT:
            detail = "an int has 64 bits with its sign; write a u behind an unsigned one"
            raise InvalidFilter(detail, column=token.column)
        return self._made(Constant(column, value))

    def _named(self) -> Node:
        name = self._advance()
        if name.text in _RESERVED:
            raise InvalidFilter(f"{name.text} is a reserved word", column=name.column)
        if name.text in ("not", "NOT"):
            raise InvalidFilter("write ! for not", column=name.column)
        if not self._at("("):
            return self._made(Name(name.column, name.text))
        arguments = self._arguments()
        if name.text != "has":
            return self._made(Call(name.column, name.text, arguments, False))
        match arguments:
            case (Select(operand=operand, field=field, column=column),):
                return self._made(Has(column, operand, field))
            case (Name(name=member, column=column),):
                return self._made(Has(column, None, member))
        detail = "has() takes the name of a member, such as has(data.bytes)"
        raise InvalidFilter(detail, column=name.column)

    def _arguments(self) -> tuple[Node, ...]:
        self._expect("(")
        return self._listed(")", trailing_comma=False)

    def _listed(self, closing: str, *, trailing_comma: bool) -> tuple[Node, ...]:
        """Expressions up to the closing bracket, which is consumed."""
        items: list[Node] = []
        if not self._at(closing):
            items.append(self._expression())
            while self._at(","):
                self._advance()
                if trailing_comma and self._at(closing):
                    break
                items.append(self._expression())
        self._expect(closing, instead=f"a comma or {closing}")
        return tuple(items)

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _at(self, operator: str) -> bool:
        return self._token.kind == "operator" and self._token.text == operator

    def _advance(self) -> Token:
        token = self._token
        if token.kind != "end":
            self._next += 1
        return token

    def _expect(self, operator: str, *, instead: str = "") -> None:
        if not self._at(operator):
            raise self._unexpected(instead or operator)
        self._advance()

    def _made(self, node: _Made) -> _Made:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            detail = f"the filter has more than {MAX_NODES} names, values and operators"
            raise InvalidFilter(detail, column=node.column)
        return node

    def _unexpected(self, wanted: str) -> InvalidFilter:
        token = self._token
        if token.kind == "end":
            return InvalidFilter(f"the filter ends where {wanted} should come", column=token.column)
        detail = _HINTS.get(token.text, f"unexpected {token.text}; {wanted} should come here")
        return InvalidFilter(detail, column=token.column)

    def _unsupported(self, what: str, token: Token) -> InvalidFilter:
        return InvalidFilter(f"filters have no {what}", column=token.column)

    def _too_deep(self, column: int) -> InvalidFilter:
        detail = f"the filter is nested deeper than {MAX_DEPTH} levels; simplify it"
        return InvalidFilter(detail, column=column)
