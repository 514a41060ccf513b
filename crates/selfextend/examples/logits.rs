//! Writes the logits of the first tokens of a text: `logits MODEL TEXT.txt TOKENS FOLDER` makes
//! `ids.json` and `ours.f32`. See tools/compare.sh.

use selfextend::{ContextRequest, KvType, LoadOptions, SessionOptions, TextModel};
use std::io::Write;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, text, tokens, folder] = &arguments[..] else {
        return Err("usage: logits MODEL TEXT.txt TOKENS FOLDER".into());
    };
    let model = TextModel::load(model, LoadOptions::default())?;
    let mut ids = model.encode(&std::fs::read_to_string(text)?)?;
    ids.truncate(tokens.parse()?);
    let folder = Path::new(folder);
    std::fs::write(folder.join("ids.json"), format!("{ids:?}"))?;
    let request = ContextRequest::new().with_needed(ids.len());
    let extension = request.resolve(model.model.config().trained_window)?;
    let options = SessionOptions::new(extension).with_kv_type(KvType::F32);
    let mut session = model.model.session(options)?;
    let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join("ours.f32"))?);
    let mut failed = None;
    session.append_all(&ids, |_, row| {
        let bytes = row
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect::<Vec<u8>>();
        failed = failed.take().or(file.write_all(&bytes).err());
    })?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}
