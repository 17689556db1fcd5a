//! Source to program: the syntax library reads the source, this file turns its borrowed tree into ours and checks the
//! depth on the way. No evaluation.

use minijinja::machinery::{Span, ast, parse};
use minijinja::syntax::SyntaxConfig;

use super::budget::DEPTH_MAX;
use super::fault::{Fault, FaultKind, Outcome};
use super::scan::{self, GENERATION, IN};
use super::syntax::*;

/// Compiles `source` with the white-space rules of chat templates.
pub(super) fn program(source: &str) -> Outcome<Program> {
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(|_| Fault::new(FaultKind::Syntax, "the syntax settings are not accepted"))?;
    let prepared = scan::prepare(source, &syntax)?;
    let tree = parse(&prepared, "template", syntax).map_err(|error| syntax_fault(&error))?;
    let mut builder = Builder { macros: Vec::new(), depth: 0, has_generation: false };
    let ast::Stmt::Template(template) = &tree else {
        return Err(Fault::new(FaultKind::Syntax, "the template has no body"));
    };
    let body = builder.block(&template.children)?;
    Ok(Program { body, macros: builder.macros, has_generation: builder.has_generation })
}

fn syntax_fault(error: &minijinja::Error) -> Box<Fault> {
    let line = error.line().and_then(|line| u32::try_from(line).ok()).unwrap_or(0);
    let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    Fault::new(FaultKind::Syntax, message).at(line)
}

struct Builder {
    macros: Vec<Macro>,
    depth: usize,
    has_generation: bool,
}

impl Builder {
    fn nested<T>(&mut self, line: u32, build: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.depth >= DEPTH_MAX {
            let message = format!("the template nests deeper than {DEPTH_MAX} levels");
            return Err(Fault::new(FaultKind::Budget, message).at(line));
        }
        self.depth += 1;
        let built = build(self);
        self.depth -= 1;
        built
    }

    fn block(&mut self, statements: &[ast::Stmt]) -> Outcome<Vec<Stmt>> {
        statements.iter().map(|statement| self.statement(statement)).collect()
    }

    fn statement(&mut self, statement: &ast::Stmt) -> Outcome<Stmt> {
        let line = statement_span(statement).map_or(0, line_of);
        self.nested(line, |this| this.statement_inner(statement, line))
    }

    fn statement_inner(&mut self, statement: &ast::Stmt, line: u32) -> Outcome<Stmt> {
        Ok(match statement {
            ast::Stmt::EmitRaw(raw) => Stmt::Text(raw.raw.into()),
            ast::Stmt::EmitExpr(emit) => Stmt::Emit(self.expression(&emit.expr)?),
            ast::Stmt::ForLoop(node) => Stmt::For(Box::new(self.for_loop(node, line)?)),
            ast::Stmt::IfCond(node) => Stmt::If {
                test: self.expression(&node.expr)?,
                then: self.block(&node.true_body)?,
                otherwise: self.block(&node.false_body)?,
            },
            ast::Stmt::WithBlock(node) => {
                let assignments = node
                    .assignments
                    .iter()
                    .map(|(target, value)| Ok((self.target(target, line)?, self.expression(value)?)))
                    .collect::<Outcome<_>>()?;
                Stmt::With { assignments, body: self.block(&node.body)? }
            }
            ast::Stmt::Set(node) => {
                Stmt::Set { target: self.target(&node.target, line)?, value: self.expression(&node.expr)? }
            }
            ast::Stmt::SetBlock(node) => Stmt::SetBlock {
                target: self.target(&node.target, line)?,
                filters: node.filter.as_ref().map_or(Ok(Vec::new()), |filter| self.filter_chain(filter))?,
                body: self.block(&node.body)?,
                line,
            },
            ast::Stmt::AutoEscape(_) => {
                return Err(Fault::new(FaultKind::Syntax, "autoescape has no place in a chat template").at(line));
            }
            ast::Stmt::FilterBlock(node) => self.filter_block(node, line)?,
            ast::Stmt::Macro(node) => Stmt::Macro(self.macro_declaration(node, line)?),
            ast::Stmt::CallBlock(node) => {
                Stmt::Call { call: self.call(&node.call)?, body: self.macro_declaration(&node.macro_decl, line)?, line }
            }
            ast::Stmt::Do(node) => Stmt::Do { call: self.call(&node.call)?, line },
            ast::Stmt::Continue(_) => Stmt::Continue,
            ast::Stmt::Break(_) => Stmt::Break,
            // Any other kind of statement names another template, and there is none.
            _ => return Err(Fault::new(FaultKind::Syntax, "a chat template cannot refer to other files").at(line)),
        })
    }

    fn for_loop(&mut self, node: &ast::ForLoop, line: u32) -> Outcome<For> {
        Ok(For {
            target: self.target(&node.target, line)?,
            iter: self.expression(&node.iter)?,
            filter: node.filter_expr.as_ref().map(|filter| self.expression(filter)).transpose()?,
            recursive: node.recursive,
            body: self.block(&node.body)?,
            otherwise: self.block(&node.else_body)?,
            line,
        })
    }

    fn filter_block(&mut self, node: &ast::FilterBlock, line: u32) -> Outcome<Stmt> {
        let filters = self.filter_chain(&node.filter)?;
        let body = self.block(&node.body)?;
        if filters.len() == 1 && &*filters[0].name == GENERATION {
            self.has_generation = true;
            return Ok(Stmt::Generation(body));
        }
        Ok(Stmt::Filter { filters, body, line })
    }

    fn filter_chain(&mut self, filter: &ast::Expr) -> Outcome<Vec<Step>> {
        let mut chain = Vec::new();
        let mut next = Some(filter);
        while let Some(expression) = next {
            let ast::Expr::Filter(node) = expression else {
                let line = line_of(expression.span());
                return Err(Fault::new(FaultKind::Syntax, "a filter is expected here").at(line));
            };
            chain.push(Step { name: node.name.into(), arguments: self.arguments(&node.args)? });
            next = node.expr.as_ref();
        }
        chain.reverse();
        Ok(chain)
    }

    fn macro_declaration(&mut self, node: &ast::Macro, line: u32) -> Outcome<usize> {
        let parameters = node
            .args
            .iter()
            .map(|parameter| match parameter {
                ast::Expr::Var(name) => Ok(name.id.into()),
                _ => Err(Fault::new(FaultKind::Syntax, "a parameter must be a name").at(line)),
            })
            .collect::<Outcome<_>>()?;
        let defaults = node.defaults.iter().map(|default| self.expression(default)).collect::<Outcome<_>>()?;
        let body = self.block(&node.body)?;
        self.macros.push(Macro { name: node.name.into(), parameters, defaults, body });
        Ok(self.macros.len() - 1)
    }

    fn target(&mut self, target: &ast::Expr, line: u32) -> Outcome<Target> {
        self.nested(line, |this| match target {
            ast::Expr::Var(name) => Ok(Target::Name(if name.id == IN { "in" } else { name.id }.into())),
            ast::Expr::GetAttr(attribute) => match &attribute.expr {
                ast::Expr::Var(name) => Ok(Target::Field(name.id.into(), attribute.name.into())),
                _ => Err(Fault::new(FaultKind::Syntax, "only a field of a namespace can be assigned").at(line)),
            },
            ast::Expr::List(list) => {
                Ok(Target::Unpack(list.items.iter().map(|item| this.target(item, line)).collect::<Outcome<_>>()?))
            }
            _ => Err(Fault::new(FaultKind::Syntax, "this cannot be assigned to").at(line)),
        })
    }

    fn expression(&mut self, expression: &ast::Expr) -> Outcome<Expr> {
        let line = line_of(expression.span());
        let kind = self.nested(line, |this| this.kind(expression, line))?;
        Ok(Expr { line, kind: Box::new(kind) })
    }

    fn optional(&mut self, expression: Option<&ast::Expr>) -> Outcome<Option<Expr>> {
        expression.map(|expression| self.expression(expression)).transpose()
    }

    fn kind(&mut self, expression: &ast::Expr, line: u32) -> Outcome<ExprKind> {
        Ok(match expression {
            ast::Expr::Var(name) => ExprKind::Name(name.id.into()),
            ast::Expr::Const(constant) => ExprKind::Constant(literal(&constant.value, line)?),
            ast::Expr::List(node) => ExprKind::List(self.expressions(&node.items)?),
            ast::Expr::Tuple(node) => ExprKind::Tuple(self.expressions(&node.items)?),
            ast::Expr::Map(node) => {
                let pairs = node.keys.iter().zip(&node.values);
                ExprKind::Dict(
                    pairs
                        .map(|(key, value)| Ok((self.expression(key)?, self.expression(value)?)))
                        .collect::<Outcome<_>>()?,
                )
            }
            ast::Expr::UnaryOp(node) => match node.op {
                ast::UnaryOpKind::Not => ExprKind::Not(self.expression(&node.expr)?),
                ast::UnaryOpKind::Neg => ExprKind::Negate(self.expression(&node.expr)?),
            },
            ast::Expr::BinOp(node) => self.binary(node)?,
            ast::Expr::Compare(node) => {
                let first = self.expression(&node.expr)?;
                let rest = node.ops.iter().map(|part| Ok((comparison(part.op), self.expression(&part.expr)?)));
                ExprKind::Compare(first, rest.collect::<Outcome<_>>()?)
            }
            ast::Expr::IfExpr(node) => ExprKind::Conditional {
                test: self.expression(&node.test_expr)?,
                then: self.expression(&node.true_expr)?,
                otherwise: self.optional(node.false_expr.as_ref())?,
            },
            ast::Expr::Filter(node) => match &node.expr {
                Some(value) => ExprKind::Filter(
                    self.expression(value)?,
                    Step { name: node.name.into(), arguments: self.arguments(&node.args)? },
                ),
                None => return Err(Fault::new(FaultKind::Syntax, "a filter needs a value").at(line)),
            },
            ast::Expr::Test(node) => ExprKind::Test(
                self.expression(&node.expr)?,
                Step { name: node.name.into(), arguments: self.arguments(&node.args)? },
            ),
            ast::Expr::GetAttr(node) => ExprKind::Attribute(self.expression(&node.expr)?, node.name.into()),
            ast::Expr::GetItem(node) => {
                ExprKind::Item(self.expression(&node.expr)?, self.expression(&node.subscript_expr)?)
            }
            ast::Expr::Slice(node) => ExprKind::Slice {
                value: self.expression(&node.expr)?,
                start: self.optional(node.start.as_ref())?,
                stop: self.optional(node.stop.as_ref())?,
                step: self.optional(node.step.as_ref())?,
            },
            ast::Expr::Call(node) => ExprKind::Call(self.call(node)?),
        })
    }

    fn expressions(&mut self, expressions: &[ast::Expr]) -> Outcome<Vec<Expr>> {
        expressions.iter().map(|expression| self.expression(expression)).collect()
    }

    fn binary(&mut self, node: &ast::BinOp) -> Outcome<ExprKind> {
        let (left, right) = (self.expression(&node.left)?, self.expression(&node.right)?);
        let arithmetic = match node.op {
            ast::BinOpKind::ScAnd => return Ok(ExprKind::And(left, right)),
            ast::BinOpKind::ScOr => return Ok(ExprKind::Or(left, right)),
            ast::BinOpKind::Add => Arithmetic::Add,
            ast::BinOpKind::Sub => Arithmetic::Subtract,
            ast::BinOpKind::Mul => Arithmetic::Multiply,
            ast::BinOpKind::Div => Arithmetic::Divide,
            ast::BinOpKind::FloorDiv => Arithmetic::FloorDivide,
            ast::BinOpKind::Rem => Arithmetic::Remainder,
            ast::BinOpKind::Pow => Arithmetic::Power,
            ast::BinOpKind::Concat => Arithmetic::Concatenate,
            ast::BinOpKind::Eq => return Ok(ExprKind::Compare(left, vec![(Comparison::Equal, right)])),
            ast::BinOpKind::Ne => return Ok(ExprKind::Compare(left, vec![(Comparison::NotEqual, right)])),
            ast::BinOpKind::Lt => return Ok(ExprKind::Compare(left, vec![(Comparison::Less, right)])),
            ast::BinOpKind::Lte => return Ok(ExprKind::Compare(left, vec![(Comparison::LessOrEqual, right)])),
            ast::BinOpKind::Gt => return Ok(ExprKind::Compare(left, vec![(Comparison::Greater, right)])),
            ast::BinOpKind::Gte => return Ok(ExprKind::Compare(left, vec![(Comparison::GreaterOrEqual, right)])),
            ast::BinOpKind::In => return Ok(ExprKind::Compare(left, vec![(Comparison::In, right)])),
        };
        Ok(ExprKind::Arithmetic(arithmetic, left, right))
    }

    fn call(&mut self, node: &ast::Call) -> Outcome<Call> {
        Ok(Call { callee: self.expression(&node.expr)?, arguments: self.arguments(&node.args)? })
    }

    fn arguments(&mut self, arguments: &[ast::CallArg]) -> Outcome<Vec<Argument>> {
        arguments
            .iter()
            .map(|argument| {
                Ok(match argument {
                    ast::CallArg::Pos(value) => Argument::Positional(self.expression(value)?),
                    ast::CallArg::Kwarg(name, value) => Argument::Named((*name).into(), self.expression(value)?),
                    ast::CallArg::PosSplat(value) => Argument::Spread(self.expression(value)?),
                    ast::CallArg::KwargSplat(value) => Argument::SpreadNamed(self.expression(value)?),
                })
            })
            .collect()
    }
}

fn comparison(op: ast::CompareOpKind) -> Comparison {
    match op {
        ast::CompareOpKind::Eq => Comparison::Equal,
        ast::CompareOpKind::Ne => Comparison::NotEqual,
        ast::CompareOpKind::Lt => Comparison::Less,
        ast::CompareOpKind::Lte => Comparison::LessOrEqual,
        ast::CompareOpKind::Gt => Comparison::Greater,
        ast::CompareOpKind::Gte => Comparison::GreaterOrEqual,
        ast::CompareOpKind::In => Comparison::In,
        ast::CompareOpKind::NotIn => Comparison::NotIn,
    }
}

fn literal(value: &minijinja::Value, line: u32) -> Outcome<Constant> {
    use minijinja::value::ValueKind;
    let refused = || Fault::new(FaultKind::Syntax, "a literal is out of range").at(line);
    Ok(match value.kind() {
        ValueKind::None => Constant::None,
        ValueKind::Bool => Constant::Bool(value.is_true()),
        ValueKind::String => Constant::Str(value.as_str().ok_or_else(refused)?.into()),
        ValueKind::Number if value.is_integer() => Constant::Int(i128::try_from(value.clone()).map_err(|_| refused())?),
        ValueKind::Number => Constant::Float(f64::try_from(value.clone()).map_err(|_| refused())?),
        _ => return Err(refused()),
    })
}

fn line_of(span: Span) -> u32 {
    u32::from(span.start_line)
}

fn statement_span(statement: &ast::Stmt) -> Option<Span> {
    Some(match statement {
        ast::Stmt::Template(node) => node.span(),
        ast::Stmt::EmitExpr(node) => node.span(),
        ast::Stmt::EmitRaw(node) => node.span(),
        ast::Stmt::ForLoop(node) => node.span(),
        ast::Stmt::IfCond(node) => node.span(),
        ast::Stmt::WithBlock(node) => node.span(),
        ast::Stmt::Set(node) => node.span(),
        ast::Stmt::SetBlock(node) => node.span(),
        ast::Stmt::FilterBlock(node) => node.span(),
        ast::Stmt::Macro(node) => node.span(),
        ast::Stmt::CallBlock(node) => node.span(),
        ast::Stmt::Do(node) => node.span(),
        ast::Stmt::AutoEscape(node) => node.span(),
        _ => return None,
    })
}
