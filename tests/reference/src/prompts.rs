//! Prompts, and completions for their arguments.

use rmcp::{
    ErrorData,
    model::{ContentBlock, GetPromptResult, JsonObject, Prompt, PromptArgument, PromptMessage, ResourceContents, Role},
};

use crate::tools::{Arguments, IMAGE};

/// What arguments are completed to.
const WORDS: [&str; 5] = ["paris", "park", "party", "test", "testing"];

/// Every prompt.
pub(crate) fn all() -> Vec<Prompt> {
    vec![
        prompt("test_simple_prompt", "A prompt without arguments", &[]),
        prompt(
            "test_prompt_with_arguments",
            "A prompt with two arguments",
            &[("arg1", "First test argument"), ("arg2", "Second test argument")],
        ),
        prompt(
            "test_prompt_with_embedded_resource",
            "A prompt with a resource in it",
            &[("resourceUri", "URI of the resource to embed")],
        ),
        prompt("test_prompt_with_image", "A prompt with an image in it", &[]),
    ]
}

/// Answers a `prompts/get`.
pub(crate) fn get(name: &str, arguments: JsonObject) -> Result<GetPromptResult, ErrorData> {
    let arguments = Arguments(arguments);
    let messages = match name {
        "test_simple_prompt" => vec![user(ContentBlock::text("This is a simple prompt for testing."))],
        "test_prompt_with_arguments" => {
            let (first, second) = (arguments.text("arg1")?, arguments.text("arg2")?);
            vec![user(ContentBlock::text(format!("Prompt with arguments: arg1='{first}', arg2='{second}'")))]
        }
        "test_prompt_with_embedded_resource" => {
            let uri = arguments.text("resourceUri")?;
            vec![
                user(ContentBlock::resource(ResourceContents::text("Embedded resource content for testing.", uri))),
                user(ContentBlock::text("Please process the embedded resource above.")),
            ]
        }
        "test_prompt_with_image" => vec![
            user(ContentBlock::image(IMAGE, "image/png")),
            user(ContentBlock::text("Please analyze the image above.")),
        ],
        _ => return Err(ErrorData::invalid_params(format!("unknown prompt {name:?}"), None)),
    };
    Ok(GetPromptResult::new(messages))
}

/// The words that start with what was typed.
pub(crate) fn complete(typed: &str) -> Vec<String> {
    WORDS.into_iter().filter(|word| word.starts_with(typed)).map(String::from).collect()
}

fn prompt(name: &str, description: &str, arguments: &[(&str, &str)]) -> Prompt {
    let arguments = arguments
        .iter()
        .map(|(name, description)| PromptArgument::new(*name).with_description(*description).with_required(true))
        .collect::<Vec<_>>();
    Prompt::new(name, Some(description), (!arguments.is_empty()).then_some(arguments))
}

fn user(content: ContentBlock) -> PromptMessage {
    PromptMessage::new(Role::User, content)
}
